// Storage as a web app uses it: url, publishable key, access token and folder come as arguments; the
// findings go to stdout as JSON.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../devstack/node/package.json", import.meta.url));
const { createClient } = require("@supabase/supabase-js");

const [url, key, token, folder] = process.argv.slice(2);
const files = createClient(url, key, { accessToken: async () => token }).storage.from("files");

async function must(promise) {
  const { data, error } = await promise;
  if (error) throw error;
  return data;
}
const text = async (name) => (await must(files.download(`${folder}/${name}`))).text();
const fetchText = async (address) => (await fetch(address)).text();

await must(files.upload(`${folder}/a.md`, new Blob(["from a blob"], { type: "text/markdown" })));
await must(files.upload(`${folder}/b.bin`, Buffer.from("from a buffer")));
await must(files.upload(`${folder}/c.bin`, new Blob(["from a stream"]).stream(), { duplex: "half" }));
const form = new FormData();
form.append("", new Blob(["from a form"], { type: "text/plain" }));
await must(files.upload(`${folder}/d.txt`, form));
await must(files.upload(`${folder}/deep/e.txt`, new Blob(["below"])));

const listed = await must(files.list(folder));
const { signedUrl } = await must(files.createSignedUrl(`${folder}/a.md`, 60));
const batch = await must(files.createSignedUrls([`${folder}/a.md`, `${folder}/none`], 60));
const { token: uploadToken } = await must(files.createSignedUploadUrl(`${folder}/deep/f.txt`));
await must(files.uploadToSignedUrl(`${folder}/deep/f.txt`, uploadToken, new Blob(["by link"])));

console.log(
  JSON.stringify({
    blob: await text("a.md"),
    buffer: await text("b.bin"),
    stream: await text("c.bin"),
    form: await text("d.txt"),
    contentType: (await fetch(signedUrl)).headers.get("content-type"),
    listed: listed.map(({ name, id }) => (id === null ? `${name}/` : name)),
    signed: await fetchText(signedUrl),
    batch: await Promise.all(batch.map(({ signedUrl }) => (signedUrl ? fetchText(signedUrl) : null))),
    uploadedByLink: await text("deep/f.txt"),
  }),
);
