// LangChain.js, which stands on an official client of its own.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { z } from "zod";
import { assert, check, forms, leftAlone, providerStatuses, setup, thrown, unique, untilRefused, watched } from "./checks.mjs";

function client({ key, url, type = ChatOpenAI, ...options } = {}) {
	const watch = watched();
	const model = new type({ model: "demo", apiKey: key ?? setup.key, maxRetries: 0, ...options,
		configuration: { baseURL: url ?? setup.url, fetch: watch.fetch } });
	return { model, ...watch };
}

// Runs anything that can be run in this form; a stream's pieces are added up as LangChain does it.
async function run(form, runnable, input) {
	if (form === "json") return runnable.invoke(input);
	let sum;
	for await (const piece of await runnable.stream(input))
		sum = sum?.concat ? sum.concat(piece) : piece;
	return sum;
}

function message({ content, tool_calls, usage_metadata, response_metadata }) {
	const { output_token_details, ...usage } = usage_metadata; // LangChain adds an empty one to an answer's usage
	const { finish_reason } = response_metadata;
	return JSON.parse(JSON.stringify({ content, tool_calls, usage, finish_reason }));
}

// ── Chat in both forms ──

await forms("text", async (form, key) => {
	const { model, caches } = client({ key });
	const answer = message(await run(form, model, unique("What is a pavise?")));
	assert.match(answer.content, /pavise/);
	assert.equal(answer.finish_reason, "stop");
	assert.ok(answer.usage.output_tokens > 0);
	return { answer, caches: caches() };
});

await forms("tool loop", async (form, key) => {
	const { model, caches } = client({ key });
	const weather = tool(async () => "hail", { name: "weather", description: "The weather in a city.",
		schema: z.object({ city: z.string(), days: z.number().int() }) });
	const messages = [new HumanMessage(unique("What is the weather like?"))], answers = [];
	for (let turn = 0; turn < 4; turn++) {
		const answer = await run(form, model.bindTools([weather]), messages);
		answers.push(message(answer));
		messages.push(answer);
		if (!answer.tool_calls?.length) break;
		for (const { id, args } of answer.tool_calls)
			messages.push(new ToolMessage({ tool_call_id: id, content: await weather.invoke(args) }));
	}
	assert.equal(answers.length, 2);
	assert.equal(answers[0].finish_reason, "tool_calls");
	assert.equal(typeof answers[0].tool_calls[0].args.city, "string");
	assert.match(answers[1].content, /The tool answered "hail"/);
	return { answer: answers, caches: caches() };
});

await forms("structured", async (form, key) => {
	const { model, caches } = client({ key });
	const schema = z.object({ title: z.string(),
		steps: z.array(z.object({ n: z.number().int(), text: z.string() })),
		mood: z.enum(["calm", "grim"]), note: z.string().nullable() });
	let answer;
	const structured = model.withStructuredOutput(schema, { name: "reply", method: "jsonSchema", strict: true });
	if (form === "json") answer = await structured.invoke(unique("Structure it."));
	else for await (const piece of await structured.stream(unique("Structure it."))) answer = piece;
	assert.deepEqual(schema.parse(answer), answer);
	return { answer, caches: caches() };
});

await forms("text completion", async (form, key) => {
	const { model, caches } = client({ key, type: OpenAI });
	let answer = "";
	if (form === "json") answer = await model.invoke(unique("Once upon a time"));
	else for await (const piece of await model.stream(unique("Once upon a time"))) answer += piece;
	assert.ok(answer);
	return { answer, caches: caches() };
}, { across: false }); // it sends ["prompt"] for an answer and "prompt" for a stream

// ── Embeddings ──

const fox = unique("a quick brown fox"), dog = unique("a lazy dog");

await check("embeddings: one", async () => {
	const { model, caches } = client({ type: OpenAIEmbeddings });
	const once = await model.embedQuery(fox), twice = await model.embedQuery(fox);
	assert.deepEqual(caches(), ["MISS", "HIT"]);
	assert.equal(once.length, 1536);
	assert.deepEqual(twice, once);
});

await check("embeddings: many, one of them known", async () => {
	const { model, caches } = client({ type: OpenAIEmbeddings });
	const known = await model.embedQuery(fox);
	const both = await model.embedDocuments([dog, fox]), again = await model.embedDocuments([fox, dog]);
	assert.equal(caches()[2], "HIT");
	assert.deepEqual(both[1], known);
	assert.notDeepEqual(both[0], known);
	assert.deepEqual(again, [...both].reverse());
});

// ── Errors: the official client's, with a word of LangChain's ──

const names = { 400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
	409: "ConflictError", 422: "UnprocessableEntityError", 429: "RateLimitError", 500: "InternalServerError",
	503: "InternalServerError" };

function isError(e, status, code, param) {
	assert.equal(e.constructor.name, names[status]);
	assert.deepEqual([e.status, e.code, e.param], [status, code, param]);
	assert.ok(e.message && e.requestID);
}

async function fails(status, code, param, options) {
	isError(await thrown(() => client(options).model.invoke("x")), status, code, param);
}

await check("error of ours: 400", () => fails(400, "invalid_value", "temperature", { temperature: -1 }));
await check("error of ours: 401", () => fails(401, "invalid_api_key", null, { key: "nobody" }));
await check("error of ours: 403", () => fails(403, "model_not_allowed", "model", { key: "limited", model: "fake" }));
await check("error of ours: 404", () => fails(404, "model_not_found", "model", { model: "nothing" }));
await check("error of ours: 429", async () => {
	const { model } = client({ url: setup.limited_url });
	const e = await untilRefused(() => model.invoke(unique("again")));
	isError(e, 429, "rate_limit_exceeded", null);
	assert.ok(Number(e.headers.get("retry-after")) >= 1);
});

for (const status of providerStatuses)
	for (const form of ["json", "stream"])
		await check(`error of the provider: ${status} ${form}`, async () => {
			const prompt = setup.prompts[`status ${status} ${form}`];
			const e = await thrown(() => run(form, client({ model: "fake" }).model, prompt));
			isError(e, status, "fake_code", "messages[0].content");
			assert.match(e.message, new RegExp(`no, ${status}`));
		});

await check("error in mid-stream", async () => {
	let text = "";
	const e = await thrown(async () => {
		const { model } = client({ model: "fake" });
		for await (const piece of await model.stream(setup.prompts.break)) text += piece.content;
	});
	assert.equal(text, "one");
	assert.match(e.message, /out of breath/);
});

// ── Trying again, giving up ──

for (const status of [429, 500])
	for (const form of ["json", "stream"])
		await check(`retry: ${status}, ${form}`, async () => {
			const { model, statuses } = client({ model: "fake", maxRetries: 2 });
			const answer = await run(form, model, setup.prompts[`retry ${status} ${form}`]);
			assert.equal(answer.content, "It is fine.");
			assert.deepEqual(statuses(), [status, 200]);
		});

await check("retry: a limit of ours", async () => {
	const ask = (maxRetries) => client({ url: setup.limited_url, maxRetries }).model.invoke(unique("once more"));
	await untilRefused(() => ask(0));
	assert.ok((await ask(5)).content);
});

// Leaves with the first piece of text.
async function leave(model, prompt) {
	const abort = new AbortController();
	let piece;
	const e = await thrown(async () => {
		for await (const chunk of await model.stream(prompt, { signal: abort.signal }))
			if (chunk.content && !piece) {
				piece = chunk.content;
				abort.abort();
			}
		abort.signal.throwIfAborted();
	});
	assert.match(`${e.name} ${e.message}`, /abort/i);
	return piece;
}

await check("abort: a miss", async () => {
	const { model, caches } = client({ model: "fake" });
	assert.equal(await leave(model, setup.prompts.abort), "one");
	await leftAlone();
	const whole = await model.invoke(setup.prompts.abort), again = await model.invoke(setup.prompts.abort);
	assert.deepEqual(caches(), ["MISS", "MISS", "HIT"]);
	assert.equal(whole.content, "It is fine.");
	assert.deepEqual(message(again), message(whole));
});

await check("abort: a hit", async () => {
	const { model, caches } = client();
	const prompt = unique("Do not interrupt me.");
	const whole = await model.invoke(prompt);
	assert.ok(whole.content.startsWith(await leave(model, prompt)));
	assert.deepEqual(message(await model.invoke(prompt)), message(whole));
	assert.deepEqual(caches(), ["MISS", "HIT", "HIT"]);
});
