// A web app with supabase-js: signs up, reads and writes rows, calls functions, follows training_jobs.
// Prints one JSON object a line; ends when its standard input closes.
import { createRequire } from "node:module";

const [url, key, modules] = process.argv.slice(2);
const { createClient } = createRequire(modules)("@supabase/supabase-js");
const say = (event, data = {}) => console.log(JSON.stringify({ event, ...data }));
const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};

async function user() {
  const client = createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false } });
  const email = `js-${crypto.randomUUID()}@test.local`;
  const { user } = must(await client.auth.signUp({ email, password: "correct-horse-battery" }));
  await client.realtime.setAuth(); // otherwise a subscribe in this tick joins without the token
  return { client, id: user.id };
}

function follow(client, event) {
  return new Promise((resolve) =>
    client
      .channel(`jobs-${event}`)
      .on("postgres_changes", { event: "*", schema: "public", table: "training_jobs" }, (change) =>
        say(event, { type: change.eventType, id: (change.new ?? change.old).id, status: change.new?.status }),
      )
      .on("system", {}, (message) => message.status === "ok" && resolve())
      .subscribe(),
  );
}

const owner = await user();
const stranger = await user();
const project = must(await owner.client.from("projects").insert({ name: "from js" }).select().single());
const seen = must(await stranger.client.from("projects").select().eq("id", project.id));
const keys = must(await owner.client.functions.invoke("manage-api-keys", { body: { action: "status" } }));
const refused = await owner.client.functions.invoke("start-training", { body: { datasetId: project.id } });
say("called", {
  user: owner.id,
  project: project.id,
  seenByStranger: seen.length,
  keysSet: keys.keys.filter((entry) => entry.set).length,
  refusedStatus: refused.error.context.status,
  refused: await refused.error.context.json(),
});
await Promise.all([follow(owner.client, "change"), follow(stranger.client, "stranger")]);
say("following");
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
