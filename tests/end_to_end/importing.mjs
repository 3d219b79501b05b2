// A web app that brings a file of rows: uploads it, has it imported, follows the dataset, reads its pairs.
// Prints one JSON object.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const [url, key, modules, file] = process.argv.slice(2);
const { createClient } = createRequire(modules)("@supabase/supabase-js");
const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};

async function user() {
  const client = createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false } });
  must(await client.auth.signUp({ email: `js-${crypto.randomUUID()}@test.local`, password: "correct-horse-battery" }));
  await client.realtime.setAuth();
  return client;
}

/** The dataset once it is ready or failed, and every change that Realtime brought of it. */
function ended(client, id) {
  const seen = [];
  return new Promise((done) => {
    const look = (row) => ["ready", "failed"].includes(row.status) && done({ row, seen });
    client
      .channel(id)
      .on("postgres_changes", { event: "UPDATE", schema: "public", table: "training_datasets", filter: `id=eq.${id}` },
        (change) => (seen.push(change.new.rows_done), look(change.new)))
      .on("system", {}, async () => look(must(await client.from("training_datasets").select().eq("id", id).single())))
      .subscribe();
  });
}

const owner = await user();
const stranger = await user();
const project = must(await owner.from("projects").insert({ name: "from js" }).select().single());
const path = `${project.id}/${crypto.randomUUID()}/log.jsonl`;
const content = await readFile(file);
must(await owner.storage.from("uploads").upload(path, content, { contentType: "application/jsonl" }));
const theft = await stranger.storage.from("uploads").download(path);
const body = { projectId: project.id, datasetName: "log", files: [{ path }], skipBadRows: true, filter: { lang: "en" } };
const refused = await stranger.functions.invoke("import-dataset", { body });
const { datasetId } = must(await owner.functions.invoke("import-dataset", { body }));
const { row } = await ended(owner, datasetId);
const pairs = must(await owner.from("training_pairs").select().eq("dataset_id", datasetId).order("ordinal"));
const seen = must(await stranger.from("training_pairs").select().eq("dataset_id", datasetId));
console.log(
  JSON.stringify({
    stolen: theft.data !== null,
    refusedStatus: refused.error.context.status,
    status: row.status,
    totals: row.import_report.totals,
    pairs: pairs.map((pair) => [pair.kind, pair.user_message, pair.assistant_message, pair.rejected_message]),
    seenByStranger: seen.length,
  }),
);
process.exit(0);
