// A reviewer's web app with supabase-js: pages of pairs, edits, bulk steps, undo, a certificate, preferences.
// Prints one JSON object: what each step answered.
import { createRequire } from "node:module";

const [url, key, modules, dataset, ...tokens] = process.argv.slice(2);
const { createClient } = createRequire(modules)("@supabase/supabase-js");
const [editor, viewer, stranger] = tokens.map((token) =>
  createClient(url, key, { accessToken: async () => token, auth: { persistSession: false } }),
);
const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};
const call = async (client, name, args) => must(await client.rpc(name, args));
const refusal = async (query) => {
  const { error, status } = await query;
  return [status, error?.code];
};

const riskiest = (client) => client.from("pairs_to_review").select("id,risk_score,risk_reasons,revision")
  .eq("dataset_id", dataset).eq("is_pending", true)
  .order("risk_score", { ascending: false }).order("id").limit(5);
const page = must(await riskiest(viewer));
const [first, second, third] = page.map((pair) => pair.id);
const edit = (client, revision) => client.rpc("edit_pair",
  { p_pair_id: first, p_changes: { assistant: "It opens at noon." }, p_expected_revision: revision });
const said = {
  page: page.length,
  filtered: (await call(viewer, "riskiest_pairs", { p_dataset_id: dataset, p_filter: { search: "door 7 opens" } })).length,
  seenByStranger: must(await riskiest(stranger)).length,
  viewer: await refusal(edit(viewer, 0)),
  stranger: await refusal(edit(stranger, 0)),
  anonymous: await refusal(createClient(url, key).rpc("edit_pair", { p_pair_id: first, p_changes: {} })),
  written: await refusal(editor.from("training_pairs").update({ review_status: "approved" }).eq("id", first)),
  edited: must(await edit(editor, 0)).pair.revision,
  conflict: await refusal(edit(editor, 0)),
  hostile: await refusal(editor.rpc("edit_pair", { p_pair_id: first, p_changes: { assistant: "a\u0000b" } })),
};
const step = (action, more) => call(editor, "review_pairs", { p_dataset_id: dataset, p_action: action, ...more });
said.approved = (await step("approve", { p_pair_ids: [first, second] })).changed;
said.rated = (await step("rate", { p_pair_ids: [first], p_rating: 5 })).changed;
const removed = await step("delete", { p_filter: { review_status: "pending" } });
said.deleted = removed.changed;
said.undone = (await call(editor, "undo_review", { p_batch_id: removed.batch_id })).undone;
const history = viewer.from("pair_revisions").select("action,revision,before,after").eq("pair_id", third).order("revision");
said.history = must(await history).map((revision) => revision.action);
said.certificate = (await call(editor, "issue_certificate", { p_dataset_id: dataset })).state;
said.standing = (await call(viewer, "certificate_standing", { p_dataset_id: dataset })).to_review;
said.preferences = must(await viewer.from("preferences_from_edits").select("chosen").eq("dataset_id", dataset));
const made = await call(editor, "make_preference_dataset", { p_dataset_id: dataset, p_name: "better" });
said.made = [made.status, made.pair_count, made.source];
console.log(JSON.stringify(said));
