// A subscriber in Express: verifies, keeps every event once, answers at once, works afterwards.
//
//   npm ci
//   taskbell subscribe https://your-app.example.com/taskbell --type task.succeeded --type task.failed
//   TASKBELL_WEBHOOK_SECRET=whsec_… PORT=9000 node subscriber.mjs
//
// Needs Node 22.13 or newer. What came but was not done when the process ended is done when it
// starts again.

import { DatabaseSync } from "node:sqlite";
import express from "express";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.TASKBELL_WEBHOOK_SECRET);
const inbox = new DatabaseSync(process.env.INBOX ?? "inbox.db");
inbox.exec("CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, body TEXT, done INT)");
const keep = inbox.prepare("INSERT OR IGNORE INTO inbox VALUES (?, ?, 0)");
const undone = inbox.prepare("SELECT id, body FROM inbox WHERE done = 0");
const done = inbox.prepare("UPDATE inbox SET done = 1 WHERE id = ?");

/** Yours: it may run twice for one event when the process is killed in the middle. */
async function work(event) {
  const { id, outputs } = event.data.task;
  console.log(event.type, id, outputs.map((output) => output.url));
}

async function doIt(id, body) {
  try {
    await work(JSON.parse(body));
    done.run(id);
  } catch (error) {
    console.error(`${id} stays in the inbox until the next start:`, error);
  }
}

const app = express();

// the raw bytes, before anything parses them; a stranger could send more than 1 MiB
app.post("/taskbell", express.raw({ type: () => true, limit: "1mb" }), (request, response) => {
  try {
    webhook.verify(request.body, request.headers);
  } catch {
    return response.status(400).send("not signed by Taskbell just now");
  }
  const [id, body] = [request.headers["webhook-id"], request.body.toString()];
  const { changes } = keep.run(id, body); // the same id comes again whenever an answer was lost
  response.sendStatus(204);
  if (changes) setImmediate(doIt, id, body);
});

for (const { id, body } of undone.all()) await doIt(id, body);
const server = app.listen(process.env.PORT ?? 9000, () =>
  console.log(`listening on ${server.address().port}`),
);
