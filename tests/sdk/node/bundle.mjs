// node bundle.mjs SCRIPT OUT: one file that a browser can load.
import { build } from "esbuild";

const [script, out] = process.argv.slice(2);
await build({ entryPoints: [script], outfile: out, bundle: true, format: "esm", platform: "browser",
	logLevel: "error" });
