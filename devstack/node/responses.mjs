// Answers of the front door's own. Every one may be read by a web page of another origin, as on hosted.

const CORS = { "access-control-allow-origin": "*" };

/** A JSON answer for a Node response that has not been started. */
export function sendJson(response, status, body) {
  response.writeHead(status, { ...CORS, "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

/** Lets a page send what it asks to send. */
export function sendPreflight(response) {
  const asked = response.req.headers["access-control-request-headers"];
  response.writeHead(204, {
    ...CORS,
    "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
    ...(asked && { "access-control-allow-headers": asked }),
  });
  response.end();
}

/** A JSON answer as a web Response. */
export function jsonResponse(status, body) {
  return Response.json(body, { status, headers: CORS });
}

/** `{"error": {...}}`, the shape of all errors of FineFlow. */
export function errorBody(code, message) {
  return { error: { code, message, details: null } };
}
