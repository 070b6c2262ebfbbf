// An agent built with the official JavaScript SDK as of A2A 0.3, over JSON-RPC, HTTP+JSON, and once more without streams but
// with push notifications. It does what the first line of the text says, as agent10.mjs does.
import { createServer } from 'node:http';
import express from 'express';
import { DefaultExecutionEventBusManager, DefaultPushNotificationSender, DefaultRequestHandler, InMemoryPushNotificationStore, InMemoryTaskStore } from 'a2a03/server';
import { UserBuilder, agentCardHandler, jsonRpcHandler, restHandler } from 'a2a03/server/express';

const port = Number(process.env.PORT), base = `http://127.0.0.1:${port}`;
let n = 0, cancelled = 0;
const waiting = new Map(); // what is held, by task
const text = (value) => ({ kind: 'text', text: value });

const executor = {
  async execute(context, bus) {
    const { taskId, contextId, userMessage, task } = context;
    const [command] = userMessage.parts.find((p) => p.kind === 'text').text.split('\n');
    const message = (words) => ({ kind: 'message', messageId: `said-${++n}-${taskId}`, role: 'agent', parts: [text(words)], taskId, contextId });
    const status = (state, words, final = false) => bus.publish({
      kind: 'status-update', taskId, contextId, final, status: { state, message: words && message(words), timestamp: new Date().toISOString() },
    });
    const artifact = (artifactId, parts, more = {}) => bus.publish({
      kind: 'artifact-update', taskId, contextId, append: false, lastChunk: true, ...more, artifact: { artifactId, name: artifactId, parts },
    });
    if (!task) {
      bus.publish({ kind: 'task', id: taskId, contextId, status: { state: 'submitted', timestamp: new Date().toISOString() }, history: [userMessage] });
    }
    if (task) {
      artifact('answer', [text(`you said ${command}`)]);
      status('completed', undefined, true);
    } else if (command === 'message') {
      status('failed', 'as it was told to', true);
    } else if (command === 'ask') {
      status('input-required', 'which one?', true);
    } else if (command === 'hold') {
      status('working', 'on it');
      artifact('half', [text('one ')], { lastChunk: false });
      artifact('half', [text('two')], { append: true });
      if (await new Promise((go) => waiting.set(taskId, go))) {
        status('completed', 'there', true);
      }
    } else {
      artifact('echo', userMessage.parts);
      status('completed', undefined, true);
    }
    bus.finished();
  },
  async cancelTask(taskId, bus) {
    waiting.get(taskId)?.(false);
    cancelled++;
    bus.publish({ kind: 'status-update', taskId, contextId: '', final: true, status: { state: 'canceled', timestamp: new Date().toISOString() } });
    bus.finished();
  },
};

const app = express();
const mount = (path, preferredTransport, capabilities, handler, push) => {
  const card = {
    protocolVersion: '0.3.0', name: 'JavaScript', description: 'For tests.', version: '1', url: base + path, preferredTransport, capabilities, skills: [],
    defaultInputModes: ['text/plain', 'application/json'], defaultOutputModes: ['text/plain', 'application/json'],
  };
  const store = push && new InMemoryPushNotificationStore();
  const requestHandler = new DefaultRequestHandler(card, new InMemoryTaskStore(), executor, new DefaultExecutionEventBusManager(), store, store && new DefaultPushNotificationSender(store));
  app.use(`${path}/.well-known/agent-card.json`, agentCardHandler({ agentCardProvider: requestHandler }));
  if (push) { // it answers at once, as agents may that have much to do
    app.use(path, express.json(), (req, _, next) => {
      if (req.body?.params?.configuration) req.body.params.configuration.blocking = false;
      next();
    });
  }
  app.use(path, handler({ requestHandler, userBuilder: UserBuilder.noAuthentication }));
};
mount('/rpc', 'JSONRPC', { streaming: true }, jsonRpcHandler);
mount('/rest', 'HTTP+JSON', { streaming: true }, restHandler);
mount('/push', 'JSONRPC', { streaming: false, pushNotifications: true }, jsonRpcHandler, true);
app.post('/release', (_, res) => {
  for (const go of waiting.values()) go(true);
  res.end();
});
app.get('/seen', (_, res) => res.json({ cancelled, held: waiting.size }));
createServer(app).listen(port, '127.0.0.1', () => console.log('ready'));
