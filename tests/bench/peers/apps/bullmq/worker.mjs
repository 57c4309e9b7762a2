// Posts each job on, signed.
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { Worker } from "bullmq";
import { request, Agent } from "undici";
import { QUEUE, connection, secret } from "./job.mjs";

const key = Buffer.from(secret.replace("whsec_", ""), "base64");
const dispatcher = new Agent({ headersTimeout: 15_000, bodyTimeout: 15_000 });

function signedHeaders(id, body) {
  const now = Math.floor(Date.now() / 1000);
  const digest = createHmac("sha256", key).update(`${id}.${now}.${body}`).digest("base64");
  return {
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": String(now),
    "webhook-signature": `v1,${digest}`,
  };
}

async function deliver({ data: { sink, id, body } }) {
  const headers = signedHeaders(id, body);
  const answer = await request(sink, { method: "POST", headers, body, dispatcher });
  await answer.body.dump();
  if (answer.statusCode >= 300) throw new Error(`answered ${answer.statusCode}`);
}

const worker = new Worker(QUEUE, deliver, { connection, concurrency: 64 });
await worker.waitUntilReady();
writeFileSync(`ready-${process.pid}`, "");
