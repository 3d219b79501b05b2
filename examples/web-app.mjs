// From a document to a tuned model that answers, as a web app does it: supabase-js and nothing else.
import { readFile } from "node:fs/promises";
import { createClient } from "@supabase/supabase-js";

const supabase = createClient(process.env.FINEFLOW_URL, process.env.FINEFLOW_PUBLISHABLE_KEY);
const ok = ({ data, error }) => { if (error) throw error; return data; };
const call = async (name, body) => ok(await supabase.functions.invoke(name, { body }));

// Resolves with the row when it has one of these statuses; every change before is pushed to `show`.
const until = (table, id, statuses, show = () => {}) => new Promise((done) => {
  const look = (row) => { show(row); if (statuses.includes(row.status)) { done(row); supabase.removeChannel(channel); } };
  const channel = supabase.channel(id)
    .on("postgres_changes", { event: "UPDATE", schema: "public", table, filter: `id=eq.${id}` }, (change) => look(change.new))
    .on("system", {}, async () => look(ok(await supabase.from(table).select().eq("id", id).single())))
    .subscribe();
});

ok(await supabase.auth.signInWithPassword({ email: "demo@fineflow.local", password: "fineflow-demo" }));
await supabase.realtime.setAuth();
const project = ok(await supabase.from("projects").select().limit(1).single());

const file = await readFile(process.argv[2] ?? "examples/handbook.md");
const document = { project_id: project.id, name: "handbook.md", mime_type: "text/markdown", byte_size: file.length,
  storage_path: `${project.id}/${crypto.randomUUID()}/handbook.md` };
ok(await supabase.storage.from("documents").upload(document.storage_path, file, { contentType: "text/markdown" }));
const { id } = ok(await supabase.from("documents").insert(document).select().single());
await until("documents", id, ["ready", "failed"]);

const { datasetId } = await call("generate-dataset", { projectId: project.id, datasetName: "handbook", documentIds: [id] });
await until("training_datasets", datasetId, ["ready", "failed"]);
const { jobId } = await call("start-training", { datasetId, trainingConfig: { epochs: 25 } });
const job = await until("training_jobs", jobId, ["completed", "failed", "cancelled"], (row) =>
  console.log(row.status, `${row.progress_percent} %`, row.training_loss ?? ""));

await call("manage-models", { action: "deploy", modelId: job.model_id, deploymentName: "support" });
const question = { role: "user", content: "When is the foghorn tested?" };
const answer = await call("chat", { model: "support", messages: [question] });
console.log(answer.choices[0].message.content);
process.exit(0);
