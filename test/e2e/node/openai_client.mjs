// What OpenAI's own client for JavaScript, unmodified, makes of a gateway: node openai_client.mjs URL TOKEN SESSION. Prints what it found as JSON.
import OpenAI from 'openai'

const client = new OpenAI({ baseURL: process.argv[2] + '/v1', apiKey: process.argv[3], maxRetries: 0 })
const found = {}

found.models = []
for await (const model of client.models.list()) found.models.push(model.id)

const messages = [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'one two three' }]
const chat = await client.chat.completions.create({ model: 'default', messages })
found.chat = { text: chat.choices[0].message.content, finish: chat.choices[0].finish_reason, tokens: chat.usage.total_tokens }

let text = '', chunks = 0, tokens = 0
for await (const chunk of await client.chat.completions.create({ model: 'default', messages, stream: true, stream_options: { include_usage: true } })) {
  chunks++
  text += chunk.choices[0]?.delta.content ?? ''
  tokens += chunk.usage?.total_tokens ?? 0
}
found.chatStream = { text, chunks, tokens }

const first = await client.responses.create({ model: 'default', input: 'My name is Ada.' })
const second = await client.responses.create({ model: 'default', input: 'And my name?', previous_response_id: first.id })
found.response = { text: first.output_text, session: first.conversation.id, next: second.conversation.id, status: second.status, tokens: second.usage.total_tokens }

const kinds = []
let said = ''
for await (const event of await client.responses.create({ model: 'default', input: 'four five six', stream: true, store: false })) {
  kinds.push(event.type)
  if (event.type === 'response.output_text.delta') said += event.delta
  if (event.type === 'response.completed') found.responseStream = { text: said, final: event.response.output[0].content[0].text }
}
found.kinds = kinds

const program = await client.chat.completions.create({ model: 'program:qa_bot', messages: [{ role: 'user', content: 'seven eight' }] }, { headers: { 'Dspex-Session': process.argv[4] } })
found.program = program.choices[0].message.content

const refused = async (call) => {
  try {
    await call()
    return {}
  } catch (e) {
    return { name: e.constructor.name, status: e.status, code: e.code, param: e.param }
  }
}
found.refused = [
  await refused(() => client.chat.completions.create({ model: 'default', messages, n: 2 })),
  await refused(() => client.chat.completions.create({ model: 'nobody', messages })),
  await refused(() => client.chat.completions.create({ model: 'program:nobody', messages: messages.slice(1) })),
  await refused(() => new OpenAI({ baseURL: process.argv[2] + '/v1', apiKey: 'wrong', maxRetries: 0 }).models.list()),
]
console.log(JSON.stringify(found))
