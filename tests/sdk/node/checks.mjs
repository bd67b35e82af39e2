// What the scripts share: a check is a line of JSON on stdout, which test_sdk.py makes a test of.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export const setup = JSON.parse(process.argv[2]);
export const unique = (text) => `${text} ${setup.tag}`;

export async function check(name, run) {
	let said = { check: name, ok: true, detail: "" };
	try {
		await run();
	} catch (e) {
		said = { check: name, ok: false, detail: String(e?.stack ?? e) };
	}
	process.stdout.write(JSON.stringify(said) + "\n");
}

// Until the call that this client has left is ended: who asks the same before that is told what it says.
export async function leftAlone() {
	for (let i = 0; i < 600 && !existsSync(setup.gone); i++)
		await sleep(50);
}

// A fetch that keeps in mind how each answer came: { status, cache }.
export function watched() {
	const seen = [];
	const fetch = async (...args) => {
		const response = await globalThis.fetch(...args);
		seen.push({ status: response.status, cache: response.headers.get("x-cache") });
		return response;
	};
	return { fetch, seen, statuses: () => seen.map((s) => s.status), caches: () => seen.map((s) => s.cache) };
}

// Plain data, less what differs from one answer to the next.
export function plain(value) {
	const { id, created, ...rest } = JSON.parse(JSON.stringify(value));
	return rest;
}

// Asks in one form, again, and then in the other; and the same with the other form first, under a key that shares no
// answers with the first. ask(form, key) → { answer, caches }, of one request or several. across: false where the
// client itself asks one thing in one form and another in the other.
export async function forms(kind, ask, { across = true } = {}) {
	const first = {};
	const again = async (form, key, asked) => {
		const { answer, caches } = await ask(form, key);
		assert.ok(caches.length > 0 && caches.every((c) => c === "HIT"), `expected hits: ${caches}`);
		assert.deepEqual(answer, asked);
	};
	for (const [form, other, key] of [["json", "stream", "alice"], ["stream", "json", "bob"]]) {
		await check(`${kind}: ${form}, miss`, async () => {
			const { answer, caches } = await ask(form, key);
			first[form] = answer;
			assert.ok(caches.length > 0 && caches.every((c) => c === "MISS"), `expected misses: ${caches}`);
		});
		await check(`${kind}: ${form}, hit`, () => again(form, key, first[form]));
		if (across)
			await check(`${kind}: ${other} from the ${form} entry`, () => again(other, key, first[form]));
	}
	await check(`${kind}: both forms agree`, async () => {
		assert.ok(first.json && first.stream);
		assert.deepEqual(first.stream, first.json);
	});
}

// What run() throws.
export async function thrown(run) {
	let value;
	try {
		value = await run();
	} catch (e) {
		return e;
	}
	assert.fail(`it should have failed, but: ${JSON.stringify(value)}`);
}

export const providerStatuses = [400, 401, 403, 404, 409, 422, 429, 500, 503];

// Waits until a limit of ours says no, whatever the window; ask() is one attempt without retries.
export async function untilRefused(ask) {
	for (let i = 0; i < 100; i++)
		try {
			await ask();
		} catch (e) {
			return e;
		}
	assert.fail("a hundred requests, and none was refused");
}

export { assert };
