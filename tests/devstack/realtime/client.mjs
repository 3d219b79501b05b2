// The official JavaScript client. Prints one JSON line per event; reads one command per line.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, url, key, token, filter] = process.argv.slice(2);
const { createClient } = createRequire(modules + "/")("@supabase/supabase-js");
const tell = (event, details) => console.log(JSON.stringify({ event, ...details }));

const supabase = createClient(url, key, { accessToken: async () => token });
await supabase.realtime.setAuth(); // otherwise the first join goes out without the token
let channel;
const subscribe = () => {
  channel = supabase
    .channel("jobs")
    .on("postgres_changes", { event: "*", schema: "public", table: "jobs", filter }, (change) =>
      tell("change", { type: change.eventType, step: change.new.step, row: change.new }))
    .on("system", {}, (message) => tell("system", { status: message.status }))
    .subscribe((status) => tell("status", { status }));
};
subscribe();
for await (const command of createInterface({ input: process.stdin })) {
  if (command === "unsubscribe") tell("left", { status: await supabase.removeChannel(channel) });
  if (command === "subscribe") subscribe();
  if (command === "broadcast") tell("sent", { status: await channel.send({ type: "broadcast", event: "e", payload: {} }) });
}
process.exit(0);
