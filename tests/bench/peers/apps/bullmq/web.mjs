// Takes a push and adds a job for each sink. node web.mjs PORT
import { Queue } from "bullmq";
import Fastify from "fastify";
import { QUEUE, connection, sinks } from "./job.mjs";

const queue = new Queue(QUEUE, {
  connection,
  defaultJobOptions: {
    attempts: 10,
    backoff: { type: "exponential", delay: 5000 },
    removeOnComplete: true,
  },
});
const web = Fastify();

web.post("/push", async (request) => {
  const id = `evt_${request.body.task_id}`;
  const body = JSON.stringify(request.body);
  const jobs = sinks.map((sink) => ({ name: "deliver", data: { sink, id, body } }));
  if (jobs.length === 1) await queue.add(jobs[0].name, jobs[0].data);
  else await queue.addBulk(jobs);
  return { status: "success" };
});

await queue.waitUntilReady();
await web.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });
