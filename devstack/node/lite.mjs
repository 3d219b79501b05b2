// Supabase Lite 0.10.0 (REST, Auth and Storage) on our Postgres, with what it lacks put right.
// It is alpha: its version is exact, and the internals that we lean on are looked for at start.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { App } from "@supabase/lite";
import { applyPendingMigrations, listMigrationFiles } from "@supabase/lite/cli";
import { createPostgresConnection } from "@supabase/lite/postgres";

const POOL_SIZE = 10;
const AUTH_FUNCTIONS = new URL("../auth_functions.sql", import.meta.url);

// PostgREST sends numerics as JSON numbers and times as ISO 8601. Lite passes the text of Postgres on,
// which supabase-py refuses to parse in the answer of sign_up.
const TYPES = {
  numeric: { to: 1700, from: [1700], serialize: String, parse: toNumber },
  timestamp: { to: 1114, from: [1114], serialize: String, parse: (text) => text.replace(" ", "T") },
  timestamptz: { to: 1184, from: [1184], serialize: String, parse: toIsoTime },
  json: { to: 114, from: [114], serialize: toJson, parse: JSON.parse },
  jsonb: { to: 3802, from: [3802], serialize: toJson, parse: JSON.parse },
};

/** "0.01000000" -> 0.01; NaN and infinities stay text, which JSON can hold. */
export function toNumber(text) {
  const number = Number(text);
  return Number.isFinite(number) ? number : text;
}

/** "2026-11-20 20:44:03.128+00" -> "2026-11-20T20:44:03.128+00:00". */
export function toIsoTime(text) {
  return text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00");
}

/**
 * Lite writes the objects and arrays of an RPC's arguments as JSON, and the driver writes that text as JSON
 * again: a function would be given one string. What is an object or array already stays as it is.
 */
export function toJson(value) {
  if (typeof value === "string" && /^\s*[[{]/.test(value)) {
    try {
      JSON.parse(value);
      return value;
    } catch {
      // text that only begins like JSON
    }
  }
  return JSON.stringify(value);
}

/** An app of Lite that serves nobody yet. `settings` are sections of supabase/config.toml. */
async function createApp(settings, databaseUrl, poolSize) {
  const connection = createPostgresConnection({
    url: databaseUrl,
    postgresOptions: { max: poolSize, types: TYPES, onnotice: () => {} },
  });
  // Admin mode gives every keyless request from this machine the rights of service_role.
  const app = new App({ ...settings, connection, options: { server: { admin: false, disableStudio: true } } });
  const missing = missingInternals(app);
  if (missing.length > 0) {
    throw new Error(`this version of @supabase/lite has no ${missing.join(", ")}; install exactly 0.10.0`);
  }
  // Left to itself, Lite looks once whether any table has RLS. Without one it runs every later request as
  // superuser; with one it grants ALL on all tables to anon and authenticated. Grants come from migrations.
  connection.rlsState = "active";
  return app;
}

/** The names of what `createApp` relies on and this app lacks. */
export function missingInternals(app) {
  const { connection } = app;
  return [
    ["connection.rlsState", connection.rlsState === "unknown"],
    ["connection.clearSchemaCache", typeof connection.clearSchemaCache === "function"],
    ["connection.driver.listen", typeof connection.driver?.listen === "function"],
    ["app._storageAdapter", "_storageAdapter" in app],
  ].flatMap(([name, found]) => (found ? [] : [name]));
}

/** The database holds Lite's schema, every migration of ./supabase/migrations, and once the seed. */
export async function prepareDatabase(settings, databaseUrl) {
  // One connection: Lite sends BEGIN and COMMIT as plain statements, which a pool would scatter.
  const app = await createApp(settings, databaseUrl, 1);
  const sql = app.connection.driver;
  try {
    app._storageAdapter = {}; // its presence makes Lite create the storage schema
    await app.ensureSystemSchema();
    const applied = await migrate(app); // which makes Lite's own functions again
    await sql.unsafe(await readFile(AUTH_FUNCTIONS, "utf8")).simple();
    const seeded = await seed(sql);
    return { applied, seeded };
  } finally {
    await app.connection.close();
  }
}

async function migrate(app) {
  try {
    const { applied } = await applyPendingMigrations(app);
    return applied.map((file) => file.filename);
  } catch (error) {
    const done = await app.connection.driver`select version from supabase_migrations.schema_migrations`;
    const versions = new Set(done.map((row) => row.version));
    const failed = (await listMigrationFiles(app)).find((file) => !versions.has(file.version));
    throw new Error(`migration ${failed?.filename ?? "?"}: ${error.message}`, { cause: error });
  }
}

async function seed(sql) {
  const name = "supabase/seed.sql";
  const text = await readFile(path.resolve(name), "utf8").catch(() => null);
  if (text === null) return false;
  return sql.begin(async (transaction) => {
    const recorded = await transaction`
      insert into supabase_migrations.seed_files (path, hash) values (${name}, '') on conflict do nothing returning 1`;
    if (recorded.length === 0) return false;
    await transaction.unsafe(text).simple();
    return true;
  });
}

/** Lite, ready for requests: `app.fetch(request)`. Schema changes reach it by NOTIFY pgrst, as on hosted. */
export async function openLite(settings, databaseUrl, storageAdapter) {
  const app = await createApp(settings, databaseUrl, POOL_SIZE);
  app._storageAdapter = storageAdapter(app.connection.driver);
  await app.init();
  await app.connection.driver.listen("pgrst", () => app.connection.clearSchemaCache());
  return app;
}
