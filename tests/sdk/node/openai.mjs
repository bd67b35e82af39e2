// The official client.
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { assert, check, forms, leftAlone, plain, providerStatuses, setup, thrown, unique, untilRefused, watched }
	from "./checks.mjs";

function client(options = {}) {
	const watch = watched();
	const { key, ...rest } = options;
	const openai = new OpenAI({ baseURL: setup.url, apiKey: key ?? setup.key, maxRetries: 0, fetch: watch.fetch,
		...rest });
	return { openai, ...watch };
}

const user = (content) => [{ role: "user", content }];
const usage = { stream_options: { include_usage: true } };

// What the SDK itself adds to some answers and not to others: nulls where nothing was to be parsed.
function completion(c) {
	const out = plain(c);
	for (const { message } of out.choices) {
		if (message.parsed === null) delete message.parsed;
		for (const call of message.tool_calls ?? [])
			if (call.function.parsed_arguments === null) delete call.function.parsed_arguments;
	}
	return out;
}

// ── Chat in both forms ──

async function chat(form, key, body) {
	const { openai, caches } = client({ key });
	const answer = form === "json" ? await openai.chat.completions.parse(body)
		: await openai.chat.completions.stream({ ...body, ...usage }).finalChatCompletion();
	return { answer: completion(answer), caches: caches() };
}

await forms("text", async (form, key) => {
	const result = await chat(form, key, { model: "demo", messages: user(unique("What is a pavise?")) });
	assert.match(result.answer.choices[0].message.content, /pavise/);
	assert.equal(result.answer.choices[0].finish_reason, "stop");
	assert.ok(result.answer.usage.completion_tokens > 0);
	return result;
});

await forms("several choices", async (form, key) => {
	const result = await chat(form, key, { model: "demo", n: 3, messages: user(unique("Three, please.")) });
	assert.equal(result.answer.choices.length, 3);
	return result;
});

await forms("everything at once", async (form, key) => {
	const body = { model: "fake", n: 3, logprobs: true, messages: user(setup.prompts.rich) };
	const result = await chat(form, key, body);
	const [yes, sorry, calls] = result.answer.choices;
	assert.deepEqual(yes.logprobs.content.map((t) => t.token), ["Yes", " sir"]);
	assert.equal(sorry.message.refusal, "I am sorry.");
	assert.deepEqual(calls.message.tool_calls.map((call) => JSON.parse(call.function.arguments)),
		[{ city: "Ulm" }, { city: "Köln" }]);
	return result;
});

await forms("tool loop", async (form, key) => {
	const { openai, caches } = client({ key });
	const asked = [];
	const weather = zodFunction({ name: "weather", description: "The weather in a city.",
		parameters: z.object({ city: z.string(), days: z.number().int() }),
		function: (args) => { asked.push(args); return "hail"; } });
	const runner = openai.chat.completions.runTools({ model: "demo", tools: [weather],
		messages: user(unique("What is the weather like?")),
		...(form === "stream" ? { stream: true, ...usage } : {}) });
	const content = await runner.finalContent();
	assert.match(content, /The tool answered "hail"/);
	assert.equal(asked.length, 1);
	assert.equal(typeof asked[0].city, "string");
	return { answer: { asked, completions: runner.allChatCompletions().map(completion) }, caches: caches() };
});

await forms("structured", async (form, key) => {
	const Reply = z.object({ title: z.string(), steps: z.array(z.object({ n: z.number().int(), text: z.string() })),
		mood: z.enum(["calm", "grim"]), note: z.string().nullable() });
	const result = await chat(form, key, { model: "demo", messages: user(unique("Structure it.")),
		response_format: zodResponseFormat(Reply, "reply") });
	const { parsed } = result.answer.choices[0].message;
	assert.deepEqual(Reply.parse(parsed), parsed);
	return result;
});

for (const cache of ["MISS", "HIT"])
	await check(`every field: ${cache.toLowerCase()}`, async () => {
		const { openai, caches } = client();
		assert.deepEqual(plain(await openai.chat.completions.create(setup.fields)), plain(setup.answer));
		assert.deepEqual(caches(), [cache]);
	});

// The SDK has nothing that puts a text completion's stream together.
async function assembled(stream) {
	const out = { choices: [] };
	for await (const { choices, ...chunk } of stream) {
		Object.assign(out, chunk, chunk.usage ? {} : { usage: out.usage ?? null });
		for (const choice of choices) {
			const to = (out.choices[choice.index] ??= { ...choice, text: "" });
			to.text += choice.text;
			to.finish_reason = choice.finish_reason ?? to.finish_reason;
		}
	}
	return out;
}

await forms("text completion", async (form, key) => {
	const { openai, caches } = client({ key });
	const body = { model: "demo", prompt: [unique("Once upon a time"), "there was"], n: 2 };
	const answer = form === "json" ? await openai.completions.create(body)
		: await assembled(await openai.completions.create({ ...body, stream: true, ...usage }));
	assert.equal(answer.choices.length, 4);
	assert.equal(answer.object, "text_completion");
	assert.ok(answer.choices.every((c) => c.text && c.finish_reason === "stop"));
	return { answer: plain(answer), caches: caches() };
});

// ── Embeddings, models ──

const fox = unique("a quick brown fox"), dog = unique("a lazy dog");

await check("embeddings: one", async () => {
	const { openai, caches } = client();
	const once = await openai.embeddings.create({ model: "demo", input: fox });
	const twice = await openai.embeddings.create({ model: "demo", input: fox });
	assert.deepEqual(caches(), ["MISS", "HIT"]);
	assert.equal(once.data[0].embedding.length, 1536);
	assert.ok(once.data[0].embedding.every((x) => typeof x === "number" && Math.abs(x) <= 1));
	assert.ok(once.usage.prompt_tokens > 0);
	assert.deepEqual(plain(twice), plain(once));
});

await check("embeddings: many, one of them known", async () => {
	const { openai, seen } = client();
	const known = await openai.embeddings.create({ model: "demo", input: fox });
	const both = await openai.embeddings.create({ model: "demo", input: [dog, fox] });
	const again = await openai.embeddings.create({ model: "demo", input: [fox, dog] });
	assert.equal(seen[2].cache, "HIT");
	assert.deepEqual(both.data.map((d) => d.index), [0, 1]);
	assert.deepEqual(both.data[1].embedding, known.data[0].embedding);
	assert.notDeepEqual(both.data[0].embedding, known.data[0].embedding);
	assert.deepEqual(again.data.map((d) => d.embedding), both.data.map((d) => d.embedding).reverse());
	assert.deepEqual(again.usage, both.usage);
});

await check("embeddings: as numbers", async () => {
	const { openai, caches } = client();
	const decoded = await openai.embeddings.create({ model: "demo", input: fox });
	const numbers = await openai.embeddings.create({ model: "demo", input: fox, encoding_format: "float" });
	const again = await openai.embeddings.create({ model: "demo", input: fox, encoding_format: "float" });
	assert.deepEqual(caches(), ["HIT", "MISS", "HIT"]);
	assert.deepEqual(numbers.data[0].embedding.map(Math.fround), Array.from(decoded.data[0].embedding));
	assert.deepEqual(plain(again), plain(numbers));
});

await check("models: list", async () => {
	const names = [];
	for await (const model of client().openai.models.list()) names.push(model.id);
	assert.deepEqual(names.sort(), ["demo", "fake"]);
});

await check("models: one", async () => {
	const model = await client().openai.models.retrieve("demo");
	assert.deepEqual([model.id, model.object, model.owned_by], ["demo", "model", "demo"]);
});

await check("models: none", async () => {
	const e = await thrown(() => client().openai.models.retrieve("a/b c"));
	assert.ok(e instanceof OpenAI.NotFoundError, e);
	assert.deepEqual([e.status, e.code], [404, "model_not_found"]);
});

// ── Errors ──

const classes = { 400: OpenAI.BadRequestError, 401: OpenAI.AuthenticationError, 403: OpenAI.PermissionDeniedError,
	404: OpenAI.NotFoundError, 409: OpenAI.ConflictError, 422: OpenAI.UnprocessableEntityError,
	429: OpenAI.RateLimitError, 500: OpenAI.InternalServerError, 503: OpenAI.InternalServerError };

function isError(e, status, code, param) {
	assert.equal(e.constructor, classes[status]);
	assert.deepEqual([e.status, e.code, e.param], [status, code, param]);
	assert.ok(e.message && e.type);
	assert.ok(e.requestID);
}

async function fails(status, code, param, options, body) {
	const { openai } = client(options);
	const e = await thrown(() => openai.chat.completions.create({ model: "demo", messages: user("x"), ...body }));
	isError(e, status, code, param);
}

await check("error of ours: 400", () => fails(400, "invalid_type", "temperature", {}, { temperature: "hot" }));
await check("error of ours: 401", () => fails(401, "invalid_api_key", null, { key: "nobody" }, {}));
await check("error of ours: 403", () =>
	fails(403, "model_not_allowed", "model", { key: "limited" }, { model: "fake" }));
await check("error of ours: 404", () => fails(404, "model_not_found", "model", {}, { model: "nothing" }));
await check("error of ours: 429", async () => {
	const { openai } = client({ baseURL: setup.limited_url });
	const body = { model: "demo", messages: user(unique("again")) };
	const e = await untilRefused(() => openai.chat.completions.create(body));
	isError(e, 429, "rate_limit_exceeded", null);
	assert.ok(Number(e.headers.get("retry-after")) >= 1);
});

for (const status of providerStatuses)
	for (const form of ["json", "stream"])
		await check(`error of the provider: ${status} ${form}`, async () => {
			const messages = user(setup.prompts[`status ${status} ${form}`]);
			const body = { model: "fake", messages, stream: form === "stream" };
			const e = await thrown(() => client().openai.chat.completions.create(body));
			isError(e, status, "fake_code", "messages[0].content");
			assert.equal(e.type, "fake_error");
			assert.match(e.message, new RegExp(`no, ${status}`));
		});

await check("error in mid-stream", async () => {
	const pieces = [], body = { model: "fake", messages: user(setup.prompts.break), stream: true };
	const e = await thrown(async () => {
		for await (const chunk of await client().openai.chat.completions.create(body))
			pieces.push(chunk.choices[0].delta.content ?? "");
	});
	assert.equal(pieces.join(""), "one");
	assert.ok(e instanceof OpenAI.APIError, e);
	assert.match(e.message, /out of breath/);
});

// ── Trying again, giving up ──

for (const status of [429, 500])
	for (const form of ["json", "stream"])
		await check(`retry: ${status}, ${form}`, async () => {
			const { openai, statuses } = client({ maxRetries: 2 });
			const messages = user(setup.prompts[`retry ${status} ${form}`]);
			const body = { model: "fake", messages };
			const answer = form === "json" ? await openai.chat.completions.create(body)
				: await openai.chat.completions.stream(body).finalChatCompletion();
			assert.equal(answer.choices[0].message.content, "It is fine.");
			assert.deepEqual(statuses(), [status, 200]);
		});

await check("retry: a limit of ours", async () => {
	const one = client({ baseURL: setup.limited_url });
	const body = { model: "demo", messages: user(unique("once more")) };
	await untilRefused(() => one.openai.chat.completions.create(body));
	const many = client({ baseURL: setup.limited_url, maxRetries: 5 });
	const answer = await many.openai.chat.completions.create(body);
	assert.ok(answer.choices[0].message.content);
});

async function onlyOnce(model, prompt) {
	const { openai, statuses } = client({ maxRetries: 2 });
	const e = await thrown(() => openai.chat.completions.create({ model, messages: user(prompt) }));
	assert.ok(e instanceof OpenAI.InternalServerError, e);
	assert.deepEqual(statuses(), [503]);
}

await check("retry: not when we say so", () => onlyOnce("off", "x"));
await check("retry: not when the provider says so", () => onlyOnce("fake", setup.prompts["do not retry"]));

// How long the SDK sleeps before it tries again, where that is more than a request may take; nobody waits for it here.
async function sleeps(run) {
	const real = globalThis.setTimeout, slept = [];
	globalThis.setTimeout = (f, ms, ...rest) => {
		if (!(ms > 600000)) return real(f, ms, ...rest);
		slept.push(ms);
		return real(f, 0, ...rest);
	};
	try {
		await run();
	} finally {
		globalThis.setTimeout = real;
	}
	return slept;
}

await check("wait: an hour, as a provider says it", async () => {
	const { openai, statuses } = client({ maxRetries: 2 });
	const body = { model: "fake", messages: user(setup.prompts["in an hour"]) };
	const slept = await sleeps(() => thrown(() => openai.chat.completions.create(body)));
	assert.deepEqual([slept, statuses()], [[3600000, 3600000], [429, 429, 429]]);
});

await check("wait: not for as long as we would have to say", async () => {
	const { openai, statuses } = client({ maxRetries: 2, baseURL: setup.month_url });
	const body = { model: "demo", messages: user(unique("this month")) };
	await openai.chat.completions.create(body);
	let e;
	const slept = await sleeps(async () => (e = await thrown(() => openai.chat.completions.create(body))));
	assert.deepEqual([slept, statuses()], [[], [200, 429]]);
	assert.ok(e instanceof OpenAI.RateLimitError, e);
	assert.ok(Number(e.headers.get("retry-after")) > 120);
});

// Leaves with the first piece of text.
async function leave(openai, model, prompt) {
	const stream = await openai.chat.completions.create({ model, messages: user(prompt), stream: true });
	for await (const chunk of stream)
		if (chunk.choices[0]?.delta.content) {
			stream.controller.abort();
			return chunk.choices[0].delta.content;
		}
}

await check("abort: a miss", async () => {
	const { openai, caches } = client();
	assert.equal(await leave(openai, "fake", setup.prompts.abort), "one");
	await leftAlone();
	const body = { model: "fake", messages: user(setup.prompts.abort) };
	const whole = await openai.chat.completions.create(body);
	const again = await openai.chat.completions.create(body);
	assert.deepEqual(caches(), ["MISS", "MISS", "HIT"]);
	assert.equal(whole.choices[0].message.content, "It is fine.");
	assert.deepEqual(plain(again), plain(whole));
});

await check("abort: a hit", async () => {
	const { openai, caches } = client();
	const body = { model: "demo", messages: user(unique("Do not interrupt me.")) };
	const whole = await openai.chat.completions.create(body);
	const start = await leave(openai, "demo", body.messages[0].content);
	assert.ok(whole.choices[0].message.content.startsWith(start));
	assert.deepEqual(plain(await openai.chat.completions.create(body)), plain(whole));
	assert.deepEqual(caches(), ["MISS", "HIT", "HIT"]);
});
