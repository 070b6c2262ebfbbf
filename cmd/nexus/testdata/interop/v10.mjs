// The official JavaScript SDK as of A2A 1.0 before the gateway. Prints a line "restart" and goes on when one comes in.
import assert from 'node:assert/strict';
import readline from 'node:readline/promises';
import { SendMessageRequest, TaskState, verifyAgentCardSignature } from '@a2a-js/sdk';
import { ClientFactory, ClientFactoryOptions, JsonRpcTransportFactory } from '@a2a-js/sdk/client';

const { SCRIPTED, ECHO, KEY } = process.env;
const keyed = (url, init = {}) => fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${KEY}` } });
const connect = async (base, fetchImpl) => {
  const options = ClientFactoryOptions.createFrom(ClientFactoryOptions.default, { transports: [new JsonRpcTransportFactory({ fetchImpl })] });
  return new ClientFactory(options).createFromUrl(`${base}/.well-known/agent-card.json`, '');
};
let n = 0;
const says = (script, more = {}, configuration) => SendMessageRequest.fromJSON({
  message: { messageId: `${script}-v10-${process.pid}-${++n}`, role: 'ROLE_USER', parts: [{ text: 'hello' }], ...more }, configuration,
});
const stateOf = (e) => (e.payload ?? e).value?.status?.state;
const all = async (stream) => { const out = []; for await (const e of stream) out.push(e); return out; };
const refused = (p, what) => assert.rejects(p, (e) => { assert.match(`${e.name} ${e.message}`, what); return true; });

const client = await connect(SCRIPTED);
const echo = await connect(ECHO, keyed);

// The card's signature holds under the published keys.
const card = await (await fetch(`${SCRIPTED}/.well-known/agent-card.json`)).json();
const keys = async (kid, jku) => (await (await fetch(jku)).json()).keys.find((k) => k.kid === kid);
await verifyAgentCardSignature(keys)(card);
await assert.rejects(verifyAgentCardSignature(keys)({ ...card, name: 'Another' }));
assert.ok((await echo.getAgentCard()).capabilities.extensions.length > 0, 'a key shows the extended card');

// Send, get, list.
const done = await client.sendMessage(says('tck-artifact-data'));
assert.equal(done.status.state, TaskState.TASK_STATE_COMPLETED);
assert.equal((await client.getTask({ id: done.id })).artifacts.length, 1);
assert.equal((await client.sendMessage(says('tck-message-response'))).parts[0].content.value, 'Direct message response');
const mine = await echo.sendMessage(says('x'));
const listed = await echo.listTasks({ contextId: mine.contextId, pageSize: 10, pageToken: '', tenant: '', status: TaskState.TASK_STATE_UNSPECIFIED });
assert.deepEqual(listed.tasks.map((t) => t.id), [mine.id]);

// Stream.
const streamed = await all(client.sendMessageStream(says('tck-stream-001')));
assert.equal(stateOf(streamed.at(-1)), TaskState.TASK_STATE_COMPLETED);
assert.ok(streamed.some((e) => e.payload.$case === 'artifactUpdate'));

// Multi-turn.
const asks = await client.sendMessage(says('tck-input-required'));
assert.equal(asks.status.state, TaskState.TASK_STATE_INPUT_REQUIRED);
const watched = all(client.resubscribeTask({ id: asks.id, tenant: '' }));
const answered = await client.sendMessage(says('tck-complete-task', { taskId: asks.id }));
assert.equal(answered.status.state, TaskState.TASK_STATE_COMPLETED);
assert.equal(answered.history.filter((m) => m.messageId.startsWith('tck-')).length, 2);
assert.equal(stateOf((await watched).at(-1)), TaskState.TASK_STATE_COMPLETED);

// Cancel, and errors.
const open = await client.sendMessage(says('tck-input-required'));
assert.equal((await client.cancelTask({ id: open.id, tenant: '' })).status.state, TaskState.TASK_STATE_CANCELED);
await refused(client.cancelTask({ id: open.id, tenant: '' }), /cancel|active|ended|already/i);
await refused(client.getTask({ id: 'nobody' }), /not ?found/i);
await refused(client.sendMessage(says('x', { taskId: open.id })), /already|cancelled|not ?supported/i);
await refused(all(client.resubscribeTask({ id: open.id, tenant: '' })), /ended|not ?supported/i);

// A task outlives the server.
const long = await client.sendMessage(says('tck-input-required'));
console.log('restart');
await readline.createInterface({ input: process.stdin }).question('');
const after = all(client.resubscribeTask({ id: long.id, tenant: '' }));
await client.sendMessage(says('tck-complete-task', { taskId: long.id }));
assert.equal(stateOf((await after).at(-1)), TaskState.TASK_STATE_COMPLETED);
console.log('done');
process.exit(0);
