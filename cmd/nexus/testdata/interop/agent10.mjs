// An agent built with the official JavaScript SDK as of A2A 1.0, over JSON-RPC, HTTP+JSON, and once more without streams but
// with push notifications. It does what the first line of the text says, and prints its port.
import { createServer } from 'node:http';
import express from 'express';
import { TaskState, Role, AgentCard, Part } from '@a2a-js/sdk';
import { AgentEvent, DefaultExecutionEventBusManager, DefaultPushNotificationSender, DefaultRequestHandler, InMemoryPushNotificationStore, InMemoryTaskStore } from '@a2a-js/sdk/server';
import { UserBuilder, agentCardHandler, jsonRpcHandler, restHandler } from '@a2a-js/sdk/server/express';

const port = Number(process.env.PORT), base = `http://127.0.0.1:${port}`;
let n = 0, cancelled = 0;
const waiting = new Map(); // what is held, by task
const text = (value) => Part.fromJSON({ text: value });

const executor = {
  async execute(context, bus) {
    const { taskId, contextId, userMessage, task } = context;
    const [command] = userMessage.parts.find((p) => p.content?.$case === 'text').content.value.split('\n');
    const message = (words) => ({ messageId: `said-${++n}-${taskId}`, role: Role.ROLE_AGENT, parts: [text(words)], taskId, contextId, extensions: [], referenceTaskIds: [], metadata: undefined });
    const status = (state, words) => bus.publish(AgentEvent.statusUpdate({
      taskId, contextId, status: { state, message: words && message(words), timestamp: new Date().toISOString() }, metadata: undefined,
    }));
    const artifact = (artifactId, parts, more = {}) => bus.publish(AgentEvent.artifactUpdate({
      taskId, contextId, append: false, lastChunk: true, metadata: undefined, ...more,
      artifact: { artifactId, name: artifactId, description: '', parts, extensions: [], metadata: undefined },
    }));
    const begun = { id: taskId, contextId, artifacts: [], history: [userMessage], metadata: undefined, ...task };
    begun.status = { state: task ? TaskState.TASK_STATE_WORKING : TaskState.TASK_STATE_SUBMITTED, message: undefined, timestamp: new Date().toISOString() };
    bus.publish(AgentEvent.task(begun));
    if (task) {
      artifact('answer', [text(`you said ${command}`)]);
      status(TaskState.TASK_STATE_COMPLETED);
    } else if (command === 'message') {
      status(TaskState.TASK_STATE_FAILED, 'as it was told to');
    } else if (command === 'ask') {
      status(TaskState.TASK_STATE_INPUT_REQUIRED, 'which one?');
    } else if (command === 'hold') {
      status(TaskState.TASK_STATE_WORKING, 'on it');
      artifact('half', [text('one ')], { lastChunk: false });
      artifact('half', [text('two')], { append: true });
      if (await new Promise((go) => waiting.set(taskId, go))) {
        status(TaskState.TASK_STATE_COMPLETED, 'there');
      }
    } else {
      artifact('echo', userMessage.parts);
      status(TaskState.TASK_STATE_COMPLETED);
    }
    bus.finished();
  },
  async cancelTask(taskId, bus) {
    waiting.get(taskId)?.(false);
    cancelled++;
    bus.publish(AgentEvent.statusUpdate({ taskId, contextId: '', status: { state: TaskState.TASK_STATE_CANCELED, message: undefined, timestamp: new Date().toISOString() }, metadata: undefined }));
    bus.finished();
  },
};

const app = express();
const mount = (path, protocolBinding, capabilities, handler, push) => {
  const card = AgentCard.fromJSON({
    name: 'JavaScript', description: 'For tests.', version: '1', capabilities, skills: [], defaultInputModes: ['text/plain', 'application/json'], defaultOutputModes: ['text/plain', 'application/json'],
    supportedInterfaces: [{ url: base + path, protocolBinding, protocolVersion: '1.0' }],
  });
  const store = push && new InMemoryPushNotificationStore();
  const requestHandler = new DefaultRequestHandler(card, new InMemoryTaskStore(), executor, new DefaultExecutionEventBusManager(), store, store && new DefaultPushNotificationSender(store));
  const options = { requestHandler, userBuilder: UserBuilder.noAuthentication };
  app.use(`${path}/.well-known/agent-card.json`, agentCardHandler({ agentCardProvider: requestHandler }));
  if (push) { // it answers at once, as agents may that have much to do
    app.use(path, express.json(), (req, _, next) => {
      if (req.body?.params?.configuration) req.body.params.configuration.returnImmediately = true;
      next();
    });
  }
  app.use(path, handler(options));
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
