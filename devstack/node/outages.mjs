// What Lite says while Postgres is away, in PostgREST's words: a client may then ask again.
import { jsonResponse } from "./responses.mjs";

const AWAY = /CONNECTION_|ECONN|EPIPE|the database system is|terminating connection/;

/** The answer; where Lite passes a lost connection on as its 500 for everything, PostgREST's 503. */
export async function tellOutage(response) {
  if (response.status !== 500) return response;
  const body = await response.clone().json().catch(() => null);
  if (body?.code !== "SUP" || !AWAY.test(body.message)) return response;
  const message = "Database client error. Retrying the connection.";
  return jsonResponse(503, { code: "PGRST001", message, details: body.message, hint: null });
}
