// The official JavaScript SDK as of A2A 0.3 before the gateway. Prints a line "restart" and goes on when one comes in.
import assert from 'node:assert/strict';
import http from 'node:http';
import readline from 'node:readline/promises';
import { ClientFactory, ClientFactoryOptions, JsonRpcTransportFactory } from 'a2a03/client';

const { SCRIPTED, ECHO, KEY } = process.env;
const keyed = (url, init = {}) => fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${KEY}` } });
const connect = async (base, fetchImpl) => {
  const options = ClientFactoryOptions.createFrom(ClientFactoryOptions.default, { transports: [new JsonRpcTransportFactory({ fetchImpl })] });
  return new ClientFactory(options).createFromUrl(`${base}/.well-known/agent-card.json`, '');
};
let n = 0;
const says = (script, more = {}) => ({
  message: { kind: 'message', messageId: `${script}-v03-${process.pid}-${++n}`, role: 'user', parts: [{ kind: 'text', text: 'hello' }], ...more },
});
const all = async (stream) => { const out = []; for await (const e of stream) out.push(e); return out; };
const refused = (p, what) => assert.rejects(p, (e) => { assert.match(`${e.name} ${e.message}`, what); return true; });

const client = await connect(SCRIPTED);
const echo = await connect(ECHO, keyed);
assert.ok((await echo.getAgentCard()).capabilities.extensions.length > 0, 'a key shows the extended card');

// Send and get.
const done = await client.sendMessage(says('tck-artifact-data'));
assert.equal(done.status.state, 'completed');
assert.equal((await client.getTask({ id: done.id })).artifacts.length, 1);
assert.equal((await client.sendMessage(says('tck-message-response'))).kind, 'message');
assert.equal((await echo.sendMessage(says('x'))).status.state, 'completed');

// Stream.
const streamed = await all(client.sendMessageStream(says('tck-stream-001')));
assert.equal(streamed.at(-1).status.state, 'completed');
assert.equal(streamed.at(-1).final, true);
assert.ok(streamed.some((e) => e.kind === 'artifact-update'));

// Multi-turn.
const asks = await client.sendMessage(says('tck-input-required'));
assert.equal(asks.status.state, 'input-required');
const answered = await client.sendMessage(says('tck-complete-task', { taskId: asks.id }));
assert.equal(answered.status.state, 'completed');
assert.equal(answered.history.filter((m) => m.messageId.startsWith('tck-')).length, 2);

// Cancel, and errors.
const open = await client.sendMessage(says('tck-input-required'));
assert.equal((await client.cancelTask({ id: open.id })).status.state, 'canceled');
await refused(client.cancelTask({ id: open.id }), /cancel|active|ended|already/i);
await refused(client.getTask({ id: 'nobody' }), /not ?found/i);
await refused(client.sendMessage(says('x', { taskId: open.id })), /already|cancelled|not ?supported/i);
await refused(all(client.resubscribeTask({ id: 'nobody' })), /not ?found/i);

// Push notifications: set, get, list, delete.
const told = [];
const hook = http.createServer(async (req, res) => {
  let body = '';
  for await (const part of req) body += part;
  told.push({ headers: req.headers, task: JSON.parse(body) });
  res.end();
});
await new Promise((up) => { hook.listen(0, '127.0.0.1', up); });
const url = `http://127.0.0.1:${hook.address().port}/hook`;
assert.ok((await echo.getAgentCard()).capabilities.pushNotifications);
// A task outlives the server: it is being worked on when that is killed. So does the wish to be told of it.
const configuration = { blocking: false, pushNotificationConfig: { url, token: 'tok', authentication: { schemes: ['Bearer'], credentials: 'let-me-in' } } };
const long = await client.sendMessage({ ...says('test-resubscribe-message-id'), configuration });
const first = await client.getTaskPushNotificationConfig({ id: long.id });
assert.equal(first.pushNotificationConfig.url, url);
assert.deepEqual(first.pushNotificationConfig.authentication.schemes, ['Bearer']);
const place = { taskId: long.id, pushNotificationConfig: { id: 'mine', url: `${url}/mine` } };
assert.deepEqual(await client.setTaskPushNotificationConfig(place), place);
const about = { id: long.id, pushNotificationConfigId: 'mine' };
assert.deepEqual(await client.getTaskPushNotificationConfig(about), place);
assert.equal((await client.listTaskPushNotificationConfig({ id: long.id })).length, 2);
for (const _ of [1, 2]) await client.deleteTaskPushNotificationConfig(about);
assert.deepEqual(await client.listTaskPushNotificationConfig({ id: long.id }), [first]);
await refused(client.getTaskPushNotificationConfig(about), /not ?found/i);
await refused(client.setTaskPushNotificationConfig({ ...place, taskId: 'nobody' }), /not ?found/i);
console.log('restart');
await readline.createInterface({ input: process.stdin }).question('');
const after = await all(client.resubscribeTask({ id: long.id }));
assert.equal(after.at(-1).status.state, 'completed');
const ended = () => told.find((n) => n.task.status.state === 'completed');
for (let i = 0; i < 300 && !ended(); i++) await new Promise((on) => { setTimeout(on, 50); });
assert.equal(ended()?.task.id, long.id, JSON.stringify(told));
assert.equal(ended().task.kind, 'task');
assert.equal(ended().headers.authorization, 'Bearer let-me-in');
assert.equal(ended().headers['x-a2a-notification-token'], 'tok');
console.log('done');
process.exit(0);
