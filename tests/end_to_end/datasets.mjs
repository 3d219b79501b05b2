// A web app that checks a dataset and exports it with supabase-js, as its owner and as a viewer. Arguments: url,
// publishable key, package.json of the modules, the two access tokens, the dataset. Prints one JSON object.
import { createRequire } from "node:module";

const [url, key, modules, owner, viewer, datasetId] = process.argv.slice(2);
const { createClient } = createRequire(modules)("@supabase/supabase-js");
const as = (token) => createClient(url, key, { accessToken: async () => token });
const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};
const invoke = (token, name, body) => as(token).functions.invoke(name, { body: { datasetId, ...body } });

const validation = must(await invoke(owner, "validate-dataset", { baseModel: "fineflow/tiny", showRows: 1 }));
const refused = await invoke(viewer, "validate-dataset", {});
const row = must(await as(viewer).from("training_datasets").select("validation").eq("id", datasetId).single());
const xrays = must(await as(viewer).from("dataset_xrays").select("base_model,totals").eq("dataset_id", datasetId));
const exported = must(await invoke(viewer, "export-dataset", { format: "dpo", kind: "preference", container: "csv" }));
const file = must(await as(viewer).storage.from("exports").download(exported.path));
const card = await (await fetch(exported.cardUrl)).text();

console.log(
  JSON.stringify({
    valid: validation.valid,
    shown: validation.xray.rows[0].tokens.filter((token) => token.state === "trained").map((token) => token.text).join(""),
    refused: refused.error.context.status,
    stored: row.validation.xray.trainedTokens === validation.xray.trainedTokens,
    xrays: xrays.map((xray) => [xray.base_model, xray.totals.used_rows]),
    lines: (await file.text()).trim().split("\n"),
    signed: (await (await fetch(exported.signedUrl)).text()) === (await file.text()),
    card: card.includes("| Pairs | 2 |"),
  }),
);
