// Lite's Storage differs from the hosted one in what it puts on the wire; here requests and answers are
// turned into what storage-js and storage3 send and expect.
import { jsonResponse } from "./responses.mjs";

const OBJECT = "/storage/v1/object/";
const MULTIPART_OVERHEAD_BYTES = 64 * 1024;
const LIST_LIMIT = 10_000; // objects below one folder that are looked at for one listing
const SIGN_LIMIT = 1_000; // links made by one request
const PAGE_SIZE = 100; // of a listing without `limit`, as on hosted

/** Wraps Lite's `fetch(request, context)`; uploads over `limitBytes` are refused while they arrive. */
export function withStorageShims(fetchFromLite, limitBytes) {
  return async (request, context) => {
    const { pathname, searchParams } = new URL(request.url);
    if (!pathname.startsWith(OBJECT)) return fetchFromLite(request, context);
    const forward = (changed) => fetchFromLite(changed, context);
    const rest = pathname.slice(OBJECT.length);
    if (request.method === "POST" && rest.startsWith("list/")) return list(request, forward);
    if (request.method === "POST" && /^sign\/[^/]+$/.test(rest)) return signMany(request, forward);
    if (request.method === "POST" && /^(upload\/)?sign\//.test(rest)) return renameLink(await forward(request));
    if (request.method === "POST" && /^(move|copy)$/.test(rest)) return forward(request);
    if (request.method === "POST" || request.method === "PUT") return upload(request, forward, limitBytes);
    const response = await forward(request);
    return request.method === "GET" ? asDownload(response, searchParams) : response;
  };
}

/** Sends the file of a form on as a plain body: storage-js leaves its name empty, which Lite does not find. */
async function upload(request, forward, limitBytes) {
  const headers = new Headers(request.headers);
  const type = headers.get("content-type") ?? "";
  const isForm = type.startsWith("multipart/form-data");
  const counted = countBytes(request, limitBytes + (isForm ? MULTIPART_OVERHEAD_BYTES : 0));
  if (!counted) return tooLarge(limitBytes);
  let body = counted.stream;
  headers.set("content-type", mimeType(type));
  if (isForm) {
    const form = await new Request(request.url, { method: "POST", headers: { "content-type": type }, body, duplex: "half" })
      .formData()
      .catch(() => null);
    if (counted.exceeded()) return tooLarge(limitBytes);
    const file = [...(form?.values() ?? [])].find((value) => typeof value !== "string");
    if (!file) return storageError(400, "InvalidRequest", "The form holds no file");
    const seconds = form.get("cacheControl");
    if (seconds) headers.set("cache-control", `max-age=${seconds}`);
    headers.set("content-type", mimeType(file.type));
    headers.set("content-length", String(file.size));
    body = file.stream();
  }
  const response = await forward(new Request(request.url, { method: request.method, headers, body, duplex: "half" }));
  return counted.exceeded() ? tooLarge(limitBytes) : response;
}

/** The body as a stream that fails once it is longer than `limit`; null when its length already says so. */
function countBytes(request, limit) {
  if (Number(request.headers.get("content-length") ?? 0) > limit) return null;
  let received = 0;
  const count = new TransformStream({
    transform(chunk, controller) {
      received += chunk.byteLength;
      if (received > limit) controller.error(new Error("the upload is too large"));
      else controller.enqueue(chunk);
    },
  });
  const body = request.body ?? new Blob([]).stream();
  return { stream: body.pipeThrough(count), exceeded: () => received > limit };
}

/** Folders as entries of their own, names relative to the folder, pages counted afterwards. */
async function list(request, forward) {
  const wanted = await request.json().catch(() => null);
  if (wanted === null) return storageError(400, "InvalidRequest", "The body is not JSON");
  const prefix = wanted.prefix ? wanted.prefix.replace(/\/*$/, "/") : "";
  const { search, limit = PAGE_SIZE, offset = 0, ...others } = wanted;
  const response = await forward(withJson(request, { ...others, prefix, limit: LIST_LIMIT, offset: 0 }));
  if (!response.ok) return response;
  const entries = new Map();
  for (const object of await response.json()) {
    if (!object.name.startsWith(prefix)) continue;
    const [name, ...below] = object.name.slice(prefix.length).split("/");
    if (search && !name.toLowerCase().startsWith(search.toLowerCase())) continue;
    if (below.length === 0) entries.set(name, { ...object, name });
    else if (!entries.has(name)) entries.set(name, folder(name));
  }
  return jsonResponse(200, [...entries.values()].slice(offset, offset + limit));
}

function folder(name) {
  return { name, id: null, created_at: null, updated_at: null, last_accessed_at: null, metadata: null };
}

/** Lite's router takes the request for many links for one that lacks its path; here it becomes many. */
async function signMany(request, forward) {
  const { paths, expiresIn } = await request.json().catch(() => ({}));
  if (!Array.isArray(paths) || paths.length > SIGN_LIMIT) {
    return storageError(400, "InvalidRequest", `paths must be a list of at most ${SIGN_LIMIT} names`);
  }
  const links = [];
  for (const path of paths) {
    const url = `${request.url}/${String(path).split("/").map(encodeURIComponent).join("/")}`;
    const response = await renameLink(await forward(withJson(request, { expiresIn }, url)));
    const answer = await response.json();
    if (response.ok) links.push({ error: null, path, signedURL: answer.signedURL });
    else links.push({ error: "Either the object does not exist or you do not have access to it", path, signedURL: null });
  }
  return jsonResponse(200, links);
}

/** Clients put /storage/v1 before the link themselves, and look for it under two other names. */
async function renameLink(response) {
  if (!response.ok) return response;
  const { signedUrl, ...answer } = await response.json();
  const link = signedUrl.replace(/^\/storage\/v1/, "");
  return jsonResponse(200, { ...answer, signedURL: link, url: link });
}

/** Files come from users and share the origin of the web app: no browser may run one as a page of it. */
function asDownload(response, searchParams) {
  const headers = new Headers(response.headers);
  headers.set("x-content-type-options", "nosniff");
  headers.set("content-security-policy", "sandbox");
  if (/html|xml|svg/.test(headers.get("content-type") ?? "")) headers.set("content-type", "text/plain");
  const name = searchParams.get("download");
  if (name !== null) {
    const suffix = name ? `; filename*=UTF-8''${encodeURIComponent(name)}` : "";
    headers.set("content-disposition", `attachment${suffix}`);
  }
  return new Response(response.body, { status: response.status, headers });
}

function withJson(request, body, url = request.url) {
  const headers = new Headers(request.headers);
  headers.delete("content-length");
  headers.set("content-type", "application/json");
  return new Request(url, { method: "POST", headers, body: JSON.stringify(body) });
}

function mimeType(header) {
  return header.split(";", 1)[0].trim() || "application/octet-stream";
}

function tooLarge(limitBytes) {
  const text = `The object exceeded the maximum allowed size of ${limitBytes} bytes`;
  const response = storageError(413, "Payload too large", text);
  response.headers.set("connection", "close"); // the rest of the body is not read
  return response;
}

/** In Storage's own shape; as on hosted, all of these travel with status 400. */
function storageError(status, error, message) {
  return jsonResponse(400, { statusCode: String(status), error, message });
}
