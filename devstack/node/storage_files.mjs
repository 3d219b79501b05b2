// Where Storage keeps its bytes: one flat file per object, named by a hash, so that no object name can
// leave the directory or collide with a folder. What describes an object is in storage.objects.
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { copyFile, mkdir, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";

/** The storage adapter that Lite asks for, over `directory`. `sql` reads storage.objects. */
export function storageFiles(directory, sql) {
  const fileOf = (bucket, name) => {
    const hash = createHash("sha256").update(`${bucket}/${name}`).digest("hex");
    return path.join(directory, hash.slice(0, 2), hash.slice(2));
  };

  async function describe(bucket, name) {
    const { size, mtime } = await stat(fileOf(bucket, name));
    const [row] = await sql`select metadata from storage.objects where bucket_id = ${bucket} and name = ${name}`;
    const kept = row?.metadata ?? {};
    return {
      cacheControl: kept.cacheControl ?? "no-cache",
      mimetype: kept.mimetype ?? "application/octet-stream",
      eTag: kept.eTag ?? "",
      contentLength: size,
      size,
      lastModified: mtime,
    };
  }

  /** Writes beside the final place and renames, so that a broken upload replaces nothing. */
  async function replace(file, write) {
    const partial = `${file}.${randomUUID()}`;
    await mkdir(path.dirname(file), { recursive: true });
    try {
      const result = await write(partial);
      await rename(partial, file);
      return result;
    } catch (error) {
      await rm(partial, { force: true });
      throw error;
    }
  }

  return {
    async uploadObject(bucket, name, _version, body, mimetype, cacheControl) {
      const file = fileOf(bucket, name);
      const { size, md5 } = await replace(file, (partial) => writeHashed(body, partial));
      return { cacheControl, mimetype, size, contentLength: size, lastModified: new Date(), eTag: `"${md5}"` };
    },

    async getObject(bucket, name) {
      const metadata = await describe(bucket, name).catch(ignoreMissing);
      if (!metadata) return { httpStatusCode: 404 }; // a row without its file; Lite answers "not found"
      return { httpStatusCode: 200, metadata, body: Readable.toWeb(createReadStream(fileOf(bucket, name))) };
    },

    headObject: describe,

    async copyObject(bucket, name, _version, toBucket, toName) {
      await replace(fileOf(toBucket, toName), (partial) => copyFile(fileOf(bucket, name), partial));
      const { eTag, lastModified } = await describe(bucket, name);
      return { httpStatusCode: 200, eTag, lastModified };
    },

    deleteObject: (bucket, name) => rm(fileOf(bucket, name), { force: true }),

    async deleteObjects(bucket, names) {
      for (const name of names) await rm(fileOf(bucket, name), { force: true });
    },

    privateAssetUrl: async (bucket, name) => `file://${fileOf(bucket, name)}`,
  };
}

function ignoreMissing(error) {
  if (error.code !== "ENOENT") throw error;
}

async function writeHashed(body, file) {
  const hash = createHash("md5"); // an eTag, as hosted makes it
  let size = 0;
  const source = body instanceof ReadableStream ? Readable.fromWeb(body) : Readable.from([body]);
  const measure = new Transform({
    transform(chunk, _encoding, done) {
      hash.update(chunk);
      size += chunk.length;
      done(null, chunk);
    },
  });
  await pipeline(source, measure, createWriteStream(file));
  return { size, md5: hash.digest("hex") };
}
