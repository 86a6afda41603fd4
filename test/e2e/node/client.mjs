// Does what a JavaScript program would do: a call and its reply, one that is refused, one that streams, and durable publishes.
import { connect, createInbox, headers } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const nc = await connect({ servers: process.argv[2] });
const body = (command, args = {}, options = {}) => JSON.stringify({ command, args, options });
const session = "dspex.rpc.session.node_1";
const found = {};

found.reply = (await nc.request(session, body("predict", { question: "What is Elixir?" }), { timeout: 60000 })).json();

const refused = await nc.request(session, body("frobnicate"), { timeout: 60000 });
found.refused = { code: refused.headers.get("Nats-Service-Error-Code"), error: refused.json().error.code };

const inbox = createInbox();
const parts = nc.subscribe(inbox, { timeout: 60000 });
nc.publish(session, body("predict", { question: "one two three four" }, { stream: true }), { reply: inbox });
found.partials = [];
for await (const part of parts) {
  if (!part.headers?.has("Dspex-Partial")) {
    found.streamed = part.json();
    break;
  }
  found.partials.push(part.json().chunk);
}

const answers = nc.subscribe("dspex.reply.node_1", { max: 2, timeout: 60000 });
const h = headers();
h.set("Dspex-Job", "node-job-1");
h.set("Dspex-Reply-To", "dspex.reply.node_1");
const question = body("predict", { question: "Tell me more about it" });
const ack = await jetstream(nc).publish("dspex.session.node_1", question, { headers: h });
await jetstream(nc).publish("dspex.session.node_1", question, { headers: h }); // the same id: it runs once, both are answered
found.stream = ack.stream;
for await (const answer of answers) found[found.answer ? "again" : "answer"] = answer.json();
const ask = JSON.stringify({ session: "node_1", job: "node-job-1", wait_ms: 60000 });
found.outcome = (await nc.request("dspex.rpc.jobs.get", ask, { timeout: 61000 })).json();

console.log(JSON.stringify(found));
await nc.close();
