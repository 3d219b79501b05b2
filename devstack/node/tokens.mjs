// Lite signs the links of Storage with the key of the access tokens, and takes every token with that
// signature for a user's. The subject of a link is a path that its maker chose: it could be the id of
// somebody else. A user's token names its audience; a link does not.

/** Whether the Authorization header holds a JWT that is not for the API. Lite checks the signature itself. */
export function isForeignToken(authorization) {
  const token = /^bearer\s+([^.\s]+\.([^.\s]+)\.[^.\s]+)\s*$/i.exec(authorization ?? "");
  if (!token) return false;
  let claims;
  try {
    claims = JSON.parse(Buffer.from(token[2], "base64url").toString("utf8"));
  } catch {
    return true;
  }
  const audiences = [claims?.aud].flat();
  // Legacy API keys of hosted projects are tokens of these two roles without an audience.
  const isApiKey = claims?.role === "service_role" || claims?.role === "anon";
  return !isApiKey && !audiences.includes("authenticated");
}
