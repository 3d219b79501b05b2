// The front door: one origin for the whole stack. REST, Auth and Storage are answered in this process;
// functions and Realtime are passed on. Started by devstack/up.py, with all it needs in the environment.
import http from "node:http";
import { getRequestListener } from "@hono/node-server";
import { openLite, prepareDatabase } from "./lite.mjs";
import { tellOutage } from "./outages.mjs";
import { pipeToFunctions, pipeToRealtime } from "./pipes.mjs";
import { errorBody, jsonResponse, sendJson } from "./responses.mjs";
import { storageFiles } from "./storage_files.mjs";
import { withStorageShims } from "./storage_shims.mjs";
import { isForeignToken } from "./tokens.mjs";

function readEnvironment(env) {
  const take = (name) => {
    if (!env[name]) throw new Error(`${name} is not set`);
    return env[name];
  };
  const settings = JSON.parse(take("FINEFLOW_LITE_SETTINGS"));
  settings.auth.jwt_secret = take("SUPABASE_JWT_SECRET");
  settings.auth.publishable_key = take("SUPABASE_PUBLISHABLE_KEY");
  settings.auth.secret_key = take("SUPABASE_SECRET_KEY");
  return {
    settings,
    databaseUrl: take("FINEFLOW_DATABASE_URL"),
    storageDirectory: take("FINEFLOW_STORAGE_DIR"),
    uploadLimitBytes: Number(take("FINEFLOW_UPLOAD_LIMIT_BYTES")),
    listenFd: Number(take("FINEFLOW_LISTEN_FD")),
    functionsPort: Number(take("FINEFLOW_FUNCTIONS_PORT")),
    realtimePort: Number(take("FINEFLOW_REALTIME_PORT")),
  };
}

function liteHandler(app, uploadLimitBytes) {
  const answer = withStorageShims((request, context) => app.fetch(request, context), uploadLimitBytes);
  return getRequestListener(async (request, env) => {
    if (isForeignToken(request.headers.get("authorization"))) {
      return jsonResponse(401, { code: "PGRST301", message: "This token is not for the API", details: null, hint: null });
    }
    return tellOutage(await answer(request, { peerAddress: env?.incoming?.socket?.remoteAddress ?? null }));
  });
}

function frontDoor(handleWithLite, ports) {
  const server = http.createServer((request, response) => {
    if (/^\/(rest|auth|storage)\/v1(\/|\?|$)/.test(request.url)) return handleWithLite(request, response);
    if (/^\/functions\/v1(\/|\?|$)/.test(request.url)) return pipeToFunctions(ports.functionsPort, request, response);
    if (request.url === "/health") return sendJson(response, 200, { status: "ok" });
    return sendJson(response, 404, errorBody("not_found", "Nothing is served at this address."));
  });
  server.on("upgrade", (request, socket, head) => {
    if (request.url.startsWith("/realtime/v1/")) return pipeToRealtime(ports.realtimePort, request, socket, head);
    socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
  });
  return server;
}

async function main() {
  const { settings, databaseUrl, storageDirectory, uploadLimitBytes, listenFd, ...ports } = readEnvironment(process.env);
  const { applied, seeded } = await prepareDatabase(settings, databaseUrl);
  console.log(`migrations applied: ${applied.length}${seeded ? ", seeded" : ""}`);
  const app = await openLite(settings, databaseUrl, (sql) => storageFiles(storageDirectory, sql));
  const server = frontDoor(liteHandler(app, uploadLimitBytes), ports);
  server.listen({ fd: listenFd }, () => console.log("listening"));
  for (const signal of ["SIGTERM", "SIGINT"]) {
    process.once(signal, async () => {
      server.close();
      server.closeAllConnections();
      await app.connection.driver.end({ timeout: 2 });
      process.exit(0);
    });
  }
}

await main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
