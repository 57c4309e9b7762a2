// What both programs share: settings, the queue's name, the connection to Redis.
import { readFileSync } from "node:fs";

export const { broker, sinks, secret } = JSON.parse(readFileSync("peer.json", "utf8"));
const { hostname, port } = new URL(broker);
export const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };
export const QUEUE = "deliveries";
