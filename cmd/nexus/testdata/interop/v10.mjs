// The official JavaScript SDK as of A2A 1.0 before the gateway. Prints a line "restart" and goes on when one comes in.
import assert from 'node:assert/strict';
import http from 'node:http';
import readline from 'node:readline/promises';
import { SendMessageRequest, StreamResponse, TaskState, verifyAgentCardSignature } from '@a2a-js/sdk';
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

// Push notifications: set, get, list, delete.
const told = [];
const hook = http.createServer(async (req, res) => {
  let body = '';
  for await (const part of req) body += part;
  const first = !told.some((n) => n.id === req.headers['x-a2a-notification-id']);
  told.push({ id: req.headers['x-a2a-notification-id'], headers: req.headers, event: StreamResponse.fromJSON(JSON.parse(body)) });
  res.writeHead(first ? 503 : 204).end(); // each is sent once more
});
await new Promise((up) => { hook.listen(0, '127.0.0.1', up); });
const url = `http://127.0.0.1:${hook.address().port}/hook`;
const hears = async (what, of) => {
  for (let i = 0; i < 300; i++) {
    if (told.filter((n) => of(n)).length > 1) return told.find((n) => of(n));
    await new Promise((on) => { setTimeout(on, 50); });
  }
  return assert.fail(`not told: ${what}; but ${JSON.stringify(told.map((n) => n.event))}`);
};
assert.ok((await echo.getAgentCard()).capabilities.pushNotifications);
// A task outlives the server, and so does the wish to be told of it.
const authentication = { scheme: 'Bearer', credentials: 'let-me-in' };
const long = await client.sendMessage(says('tck-input-required', {}, { taskPushNotificationConfig: { url, token: 'tok', authentication } }));
const place = { tenant: '', id: 'mine', taskId: long.id, url: `${url}/mine`, token: '', authentication: undefined };
assert.equal((await client.createTaskPushNotificationConfig(place)).id, 'mine');
assert.equal((await client.getTaskPushNotificationConfig({ tenant: '', taskId: long.id, id: 'mine' })).url, place.url);
const listed2 = async () => (await client.listTaskPushNotificationConfig({ tenant: '', taskId: long.id, pageSize: 0, pageToken: '' })).configs;
assert.equal((await listed2()).length, 2);
assert.equal((await listed2()).find((c) => c.id !== 'mine').authentication.scheme, 'Bearer');
for (const _ of [1, 2]) await client.deleteTaskPushNotificationConfig({ tenant: '', taskId: long.id, id: 'mine' });
assert.equal((await listed2()).length, 1);
await refused(client.getTaskPushNotificationConfig({ tenant: '', taskId: long.id, id: 'mine' }), /not ?found/i);
await refused(client.createTaskPushNotificationConfig({ ...place, taskId: 'nobody' }), /not ?found/i);
await refused(client.createTaskPushNotificationConfig({ ...place, url: 'file:///etc/passwd' }), /url/i);
console.log('restart');
await readline.createInterface({ input: process.stdin }).question('');
const after = all(client.resubscribeTask({ id: long.id, tenant: '' }));
await client.sendMessage(says('tck-complete-task', { taskId: long.id }));
assert.equal(stateOf((await after).at(-1)), TaskState.TASK_STATE_COMPLETED);
const end = await hears('the end', (n) => n.event.payload.$case === 'statusUpdate' && n.event.payload.value.status.state === TaskState.TASK_STATE_COMPLETED);
assert.equal(end.event.payload.value.taskId, long.id);
assert.equal(end.headers.authorization, 'Bearer let-me-in');
assert.equal(end.headers['x-a2a-notification-token'], 'tok');
assert.equal(end.headers['content-type'], 'application/a2a+json');
await hears('what it asked', (n) => n.event.payload.value.status?.state === TaskState.TASK_STATE_INPUT_REQUIRED);
console.log('done');
process.exit(0);
