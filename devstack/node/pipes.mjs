// What other servers of the stack answer: requests to the functions, sockets to Realtime.
import http from "node:http";
import net from "node:net";
import { errorBody, sendJson, sendPreflight } from "./responses.mjs";

const HOST = "127.0.0.1";
const SILENCE_MS = 300_000; // a model on a laptop may think this long before its first word

/** Passes a request on and its answer back, both as they arrive. */
export function pipeToFunctions(port, request, response) {
  const upstream = http.request(
    { host: HOST, port, method: request.method, path: request.url, headers: request.headers, agent: false },
    (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    },
  );
  upstream.setTimeout(SILENCE_MS, () => upstream.destroy(new Error("timeout")));
  upstream.on("error", () => {
    if (response.headersSent) return response.destroy();
    if (request.method === "OPTIONS") return sendPreflight(response); // or the page could not read the 503
    sendJson(response, 503, errorBody("functions_unavailable", "The functions server does not answer; try again."));
  });
  response.on("close", () => upstream.destroy());
  request.pipe(upstream);
}

/** Joins the two sockets after the first has asked for a WebSocket. */
export function pipeToRealtime(port, request, socket, head) {
  const upstream = net.connect(port, HOST, () => {
    upstream.write(requestHead(request));
    upstream.write(head);
    socket.pipe(upstream).pipe(socket);
  });
  upstream.once("error", () => socket.end("HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n"));
  for (const [one, other] of [[socket, upstream], [upstream, socket]]) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
    one.setNoDelay(true);
  }
}

function requestHead({ method, url, rawHeaders }) {
  const lines = [`${method} ${url} HTTP/1.1`];
  for (let i = 0; i < rawHeaders.length; i += 2) lines.push(`${rawHeaders[i]}: ${rawHeaders[i + 1]}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}
