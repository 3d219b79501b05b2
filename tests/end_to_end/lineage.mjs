// A web app with supabase-js: splits a dataset, asks what a document reached, withdraws it and brings it back,
// as the owner, a viewer and a stranger. Prints one JSON object.
import { createRequire } from "node:module";

const [url, key, modules] = process.argv.slice(2);
const { createClient } = createRequire(modules)("@supabase/supabase-js");
const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};

async function user() {
  const client = createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false } });
  const email = `js-${crypto.randomUUID()}@test.local`;
  const { user } = must(await client.auth.signUp({ email, password: "correct-horse-battery" }));
  return { ...client, supabase: client, id: user.id };
}

async function until(supabase, table, id, status) {
  for (;;) {
    const row = must(await supabase.from(table).select().eq("id", id).single());
    if (row.status === status) return row;
    if (row.status === "failed") throw new Error(JSON.stringify(row.error));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const [owner, viewer, stranger] = await Promise.all([user(), user(), user()]);
const mine = owner.supabase;
const project = must(await mine.from("projects").insert({ name: "lineage" }).select().single());
must(await mine.from("project_members").insert({ project_id: project.id, user_id: viewer.id, role: "viewer" }));

const documents = await Promise.all(
  ["gate", "dike"].map(async (name) => {
    const text = Array.from({ length: 8 }, (_, n) => `# ${name} ${n}\n\nThe ${name} ${n} was built by Ada ${n}.`).join("\n");
    const path = `${project.id}/${crypto.randomUUID()}/${name}.md`;
    must(await mine.storage.from("documents").upload(path, text, { contentType: "text/markdown" }));
    const row = { project_id: project.id, name: `${name}.md`, storage_path: path, mime_type: "text/markdown", byte_size: text.length };
    const { id } = must(await mine.from("documents").insert(row).select().single());
    return until(mine, "documents", id, "ready");
  }),
);
const made = { projectId: project.id, datasetName: "lineage", pairsPerChunk: 10 };
const { datasetId } = must(await mine.functions.invoke("generate-dataset", { body: made }));
const dataset = await until(mine, "training_datasets", datasetId, "ready");
const split = must(await mine.functions.invoke("split-dataset", { body: { datasetId, trainFraction: 0.5, testFraction: 0.5 } }));
const check = must(await viewer.supabase.functions.invoke("split-dataset", { body: { datasetId, check: true } }));
const refused = await viewer.supabase.functions.invoke("split-dataset", { body: { datasetId } });

const p_document_id = documents[0].id;
const of = { p_document_id };
const reach = must(await viewer.supabase.rpc("document_reach", of));
const seenByStranger = must(await stranger.supabase.rpc("document_reach", of));
const byViewer = await viewer.supabase.rpc("withdraw_document", of);
const byStranger = await stranger.supabase.rpc("withdraw_document", of);
const withdrawn = must(await mine.rpc("withdraw_document", { p_document_id, p_reason: "licence ended" }));
const usable = async () =>
  must(await mine.from("training_pairs").select("document_id").eq("dataset_id", datasetId).eq("is_valid", true));
const left = await usable();
const restored = must(await mine.rpc("restore_document", of));
const back = await usable();

console.log(
  JSON.stringify({
    pairs: dataset.pair_count,
    split: split.counts,
    leaks: check.leakCounts,
    refused: refused.error.context.status,
    reached: reach.pairs.length,
    seenByStranger,
    byViewer: [byViewer.status, byViewer.error.code],
    byStranger: [byStranger.status, byStranger.error.code],
    reason: withdrawn.withdrawal.reason,
    leftOf: [...new Set(left.map((pair) => pair.document_id))].map((id) => documents.findIndex((row) => row.id === id)),
    restored: restored.document.status,
    back: back.length,
  }),
);
process.exit(0);
