// Does what a JavaScript program would do: one request with its reply, one durable publish and the look-up of its outcome.
import { connect, headers } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const nc = await connect({ servers: process.argv[2] });
const body = (command, args) => JSON.stringify({ command, args });
const request = await nc.request("dspex.rpc.session.node_1", body("predict", { question: "What is Elixir?" }), { timeout: 30000 });
const h = headers();
h.set("Dspex-Job", "node-job-1");
h.set("Nats-Msg-Id", "node_1.node-job-1");
const ack = await jetstream(nc).publish("dspex.session.node_1", body("predict", { question: "Tell me more about it" }), { headers: h });
const again = await jetstream(nc).publish("dspex.session.node_1", body("predict", { question: "Tell me more about it" }), { headers: h });
const outcome = await nc.request("dspex.rpc.jobs.get", JSON.stringify({ session: "node_1", job: "node-job-1", wait_ms: 30000 }), { timeout: 31000 });
console.log(JSON.stringify({ reply: request.json(), stream: ack.stream, duplicate: again.duplicate, outcome: outcome.json() }));
await nc.close();
