// The official client in a page. Each check is told to where the page came from; test_browser.py makes a test of it.
import OpenAI from "openai";

const { url, tag } = globalThis.setup;
const user = (text) => [{ role: "user", content: `${text} ${tag}` }];
const question = { model: "demo", messages: user("What is a pavise?") };
const client = (apiKey = "demo") => new OpenAI({ baseURL: url, apiKey, maxRetries: 0, dangerouslyAllowBrowser: true });

function must(value, what) {
	if (!value) throw new Error(`not ${what}`);
	return value;
}

async function said(check, run) {
	let outcome = { check, ok: true };
	try {
		outcome.detail = (await run()) ?? null;
	} catch (e) {
		outcome = { check, ok: false, detail: `${e?.name} ${e?.message}` };
	}
	await fetch("/said", { method: "POST", body: JSON.stringify(outcome) });
}

async function stream(body) {
	const { data, response } = await client().chat.completions.create({ ...body, stream: true }).withResponse();
	let text = "";
	for await (const chunk of data) text += chunk.choices[0]?.delta.content ?? "";
	return { text, cache: response.headers.get("x-cache") };
}

const anything = async (body) => {
	const { data, response } = await client().chat.completions.create(body).withResponse();
	return { text: data.choices[0].message.content, cache: response.headers.get("x-cache") };
};

await said("chat, miss", () => anything(question));
await said("chat, hit", () => anything(question));
await said("stream, hit", () => stream(question));
await said("stream, miss", () => stream({ model: "demo", messages: user("And what is a mantlet?") }));

await said("headers", async () => {
	const { response } = await client().chat.completions.create(question).withResponse();
	return Object.fromEntries(response.headers);
});

await said("options", async () => {
	const options = { headers: { "OpenAI-Beta": "x", "x-request-id": `page-${tag}` }, timeout: 60000,
		idempotencyKey: "k" };
	const { response } = await client().chat.completions.create(question, options).withResponse();
	return response.headers.get("x-request-id");
});

await said("models", async () => (await client().models.list()).data.map((model) => model.id));
await said("embeddings", async () => {
	const answer = await client().embeddings.create({ model: "demo", input: tag });
	return answer.data[0].embedding.length;
});

for (const [status, key, body] of [[401, "nobody", question], [404, "demo", { ...question, model: "nothing" }],
	[400, "demo", { ...question, temperature: "hot" }]])
	await said(`error ${status}`, async () => {
		try {
			await client(key).chat.completions.create(body);
		} catch (e) {
			const { status, code, param, requestID: id } = e;
			return { name: e.constructor.name, status, code, param, id };
		}
	});

await said("abort", async () => {
	const running = await client().chat.completions.create({ ...question, stream: true });
	for await (const chunk of running) if (chunk.choices[0]?.delta.content) break;
	must(running.controller.signal.aborted, "aborted");
});

await said("end", () => {});
