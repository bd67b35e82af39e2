// Vercel's AI SDK, with its OpenAI provider.
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, RetryError, embed, embedMany, generateObject, generateText, stepCountIs, streamObject,
	streamText, tool } from "ai";
import { z } from "zod";
import { assert, check, forms, leftAlone, providerStatuses, setup, thrown, unique, untilRefused, watched } from "./checks.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

function client({ key, url } = {}) {
	const watch = watched();
	const openai = createOpenAI({ baseURL: url ?? setup.url, apiKey: key ?? setup.key, fetch: watch.fetch });
	return { openai, ...watch };
}

// In a stream an error comes as a part; here it is thrown, as generateText() does it.
async function streamed(options) {
	let failure;
	const result = streamText({ ...options, onError: ({ error }) => { failure = error; } });
	await result.consumeStream();
	if (failure) throw failure;
	return { text: await result.text, steps: await result.steps };
}

const run = { json: generateText, stream: streamed };
const step = ({ text, toolCalls, toolResults, finishReason, usage }) =>
	({ text, toolCalls, toolResults, finishReason, usage });

async function chat(form, { maxRetries = 0, ...options }) {
	const { text, steps } = await run[form]({ maxRetries, ...options });
	return JSON.parse(JSON.stringify({ text, steps: steps.map(step) }));
}

// ── Chat in both forms ──

await forms("text", async (form, key) => {
	const { openai, caches } = client({ key });
	const answer = await chat(form, { model: openai.chat("demo"), prompt: unique("What is a pavise?") });
	assert.match(answer.text, /pavise/);
	assert.equal(answer.steps[0].finishReason, "stop");
	assert.ok(answer.steps[0].usage.outputTokens > 0);
	return { answer, caches: caches() };
});

await forms("tool loop", async (form, key) => {
	const { openai, caches } = client({ key });
	const weather = tool({ description: "The weather in a city.", execute: async () => "hail",
		inputSchema: z.object({ city: z.string(), days: z.number().int() }) });
	const answer = await chat(form, { model: openai.chat("demo"), tools: { weather }, stopWhen: stepCountIs(4),
		prompt: unique("What is the weather like?") });
	assert.match(answer.text, /The tool answered "hail"/);
	assert.equal(answer.steps.length, 2);
	assert.equal(answer.steps[0].finishReason, "tool-calls");
	assert.equal(typeof answer.steps[0].toolCalls[0].input.city, "string");
	return { answer, caches: caches() };
});

await forms("structured", async (form, key) => {
	const { openai, caches } = client({ key });
	const schema = z.object({ title: z.string(),
		steps: z.array(z.object({ n: z.number().int(), text: z.string() })),
		mood: z.enum(["calm", "grim"]), note: z.string().nullable() });
	const options = { model: openai.chat("demo"), schema, maxRetries: 0, prompt: unique("Structure it.") };
	const result = form === "json" ? await generateObject(options) : streamObject(options);
	if (form === "stream") for await (const part of result.fullStream) if (part.type === "error") throw part.error;
	const object = await result.object;
	assert.deepEqual(schema.parse(object), object);
	const answer = { object, usage: await result.usage, finishReason: await result.finishReason };
	return { answer: JSON.parse(JSON.stringify(answer)), caches: caches() };
});

await forms("text completion", async (form, key) => {
	const { openai, caches } = client({ key });
	const answer = await chat(form, { model: openai.completion("demo"), prompt: unique("Once upon a time") });
	assert.ok(answer.text);
	return { answer, caches: caches() };
});

// ── Embeddings ──

const fox = unique("a quick brown fox"), dog = unique("a lazy dog");

await check("embeddings: one", async () => {
	const { openai, caches } = client();
	const ask = () => embed({ model: openai.embedding("demo"), value: fox, maxRetries: 0 });
	const once = await ask(), twice = await ask();
	assert.deepEqual(caches(), ["MISS", "HIT"]);
	assert.equal(once.embedding.length, 1536);
	assert.ok(once.usage.tokens > 0);
	assert.deepEqual([twice.embedding, twice.usage], [once.embedding, once.usage]);
});

await check("embeddings: many, one of them known", async () => {
	const { openai, caches } = client();
	const known = await embed({ model: openai.embedding("demo"), value: fox, maxRetries: 0 });
	const ask = (values) => embedMany({ model: openai.embedding("demo"), values, maxRetries: 0 });
	const both = await ask([dog, fox]), again = await ask([fox, dog]);
	assert.equal(caches()[2], "HIT");
	assert.deepEqual(both.embeddings[1], known.embedding);
	assert.notDeepEqual(both.embeddings[0], known.embedding);
	assert.deepEqual(again.embeddings, [...both.embeddings].reverse());
	assert.deepEqual(again.usage, both.usage);
});

// ── Errors: one class for all ──

function isError(e, status, code, param) {
	assert.ok(APICallError.isInstance(e), e);
	assert.equal(e.statusCode, status);
	assert.equal(e.isRetryable, [408, 409, 429].includes(status) || status >= 500);
	assert.deepEqual([e.data.error.code, e.data.error.param], [code, param]);
	assert.equal(e.message, e.data.error.message);
	assert.ok(e.responseHeaders["x-request-id"]);
}

async function fails(status, code, param, options, model, body) {
	const e = await thrown(() => chat("json", { model: client(options).openai.chat(model), prompt: "x", ...body }));
	isError(e, status, code, param);
}

await check("error of ours: 400", () => fails(400, "invalid_value", "temperature", {}, "demo", { temperature: -1 }));
await check("error of ours: 401", () => fails(401, "invalid_api_key", null, { key: "nobody" }, "demo", {}));
await check("error of ours: 403", () => fails(403, "model_not_allowed", "model", { key: "limited" }, "fake", {}));
await check("error of ours: 404", () => fails(404, "model_not_found", "model", {}, "nothing", {}));
await check("error of ours: 429", async () => {
	const { openai } = client({ url: setup.limited_url });
	const e = await untilRefused(() => chat("json", { model: openai.chat("demo"), prompt: unique("again") }));
	isError(e, 429, "rate_limit_exceeded", null);
	assert.ok(Number(e.responseHeaders["retry-after"]) >= 1);
});

for (const status of providerStatuses)
	for (const form of ["json", "stream"])
		await check(`error of the provider: ${status} ${form}`, async () => {
			const prompt = setup.prompts[`status ${status} ${form}`];
			const e = await thrown(() => chat(form, { model: client().openai.chat("fake"), prompt }));
			isError(e, status, "fake_code", "messages[0].content");
			assert.equal(e.message, `no, ${status}`);
		});

await check("error in mid-stream", async () => {
	const parts = [];
	const result = streamText({ model: client().openai.chat("fake"), prompt: setup.prompts.break, maxRetries: 0,
		onError: () => {} });
	for await (const part of result.fullStream) parts.push(part);
	assert.equal(parts.filter((p) => p.type === "text-delta").map((p) => p.text).join(""), "one");
	const [error] = parts.filter((p) => p.type === "error");
	assert.match(JSON.stringify(error.error?.message ?? error.error), /out of breath/);
});

// ── Trying again, giving up ──

for (const status of [429, 500])
	for (const form of ["json", "stream"])
		await check(`retry: ${status}, ${form}`, async () => {
			const { openai, statuses } = client();
			const prompt = setup.prompts[`retry ${status} ${form}`];
			const answer = await chat(form, { model: openai.chat("fake"), maxRetries: 2, prompt });
			assert.equal(answer.text, "It is fine.");
			assert.deepEqual(statuses(), [status, 200]);
		});

await check("retry: a limit of ours", async () => {
	const { openai } = client({ url: setup.limited_url });
	const prompt = unique("once more");
	const ask = (maxRetries) => chat("json", { model: openai.chat("demo"), prompt, maxRetries });
	const e = await untilRefused(() => ask(0));
	assert.ok(!RetryError.isInstance(e));
	assert.ok((await ask(5)).text);
});

// Leaves with the first piece of text.
async function leave(model, prompt) {
	const abort = new AbortController();
	let piece, aborted = false;
	const result = streamText({ model, prompt, abortSignal: abort.signal, maxRetries: 0, onError: () => {},
		onAbort: () => { aborted = true; } });
	for await (const part of result.fullStream)
		if (part.type === "text-delta" && !piece) {
			piece = part.text;
			abort.abort();
		}
	return { piece, aborted };
}

await check("abort: a miss", async () => {
	const { openai, caches } = client();
	const { piece, aborted } = await leave(openai.chat("fake"), setup.prompts.abort);
	assert.deepEqual([piece, aborted], ["one", true]);
	await leftAlone();
	const ask = () => chat("json", { model: openai.chat("fake"), prompt: setup.prompts.abort });
	const whole = await ask(), again = await ask();
	assert.deepEqual(caches(), ["MISS", "MISS", "HIT"]);
	assert.equal(whole.text, "It is fine.");
	assert.deepEqual(again, whole);
});

await check("abort: a hit", async () => {
	const { openai, caches } = client();
	const prompt = unique("Do not interrupt me.");
	const ask = () => chat("json", { model: openai.chat("demo"), prompt });
	const whole = await ask();
	const { piece } = await leave(openai.chat("demo"), prompt);
	assert.ok(whole.text.startsWith(piece));
	assert.deepEqual(await ask(), whole);
	assert.deepEqual(caches(), ["MISS", "HIT", "HIT"]);
});
