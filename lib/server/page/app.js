'use strict';

// The chat page: keeps one conversation in this tab and streams answers from the server it came from.

const HISTORY_KEY = 'open-autoglm.history';
const API_KEY = 'open-autoglm.key';

const element = (id) => document.getElementById(id);
const list = element('messages');
const input = element('input');
const model = element('model');

/** The conversation without the system message: {role, content, note?}. */
let messages = JSON.parse(sessionStorage.getItem(HISTORY_KEY) ?? '[]');
/** Ends the answer being streamed; null when there is none. */
let running = null;

class ServerError extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const key = sessionStorage.getItem(API_KEY);
  const headers = { ...options.headers, ...(key === null ? {} : { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new ServerError(response.status, body?.error);
}

function showProblem(error) {
  if (error instanceof ServerError && error.status === 401) {
    const hadKey = sessionStorage.getItem(API_KEY) !== null;
    askForKey();
    // Without a key before, the form says all there is to say.
    if (!hadKey) error = null;
  }
  const problem = element('problem');
  problem.hidden = error === null;
  problem.textContent = error === null ? '' : error.message;
}

function askForKey() {
  sessionStorage.removeItem(API_KEY);
  element('key-form').hidden = false;
  element('key').focus();
}

async function loadModels() {
  try {
    const { data } = await (await call('v1/models')).json();
    model.disabled = false;
    model.replaceChildren(...data.map(({ id }) => new Option(id, id)));
    showProblem(data.length === 0 ? new Error('No model is loaded.') : null);
    element('key-form').hidden = true;
  } catch (error) {
    showProblem(error);
  }
}

function addItem({ role, content, note }) {
  const item = document.createElement('li');
  const speaker = document.createElement('span');
  const text = document.createElement('span');
  item.className = role;
  speaker.className = 'hidden-label';
  speaker.textContent = role === 'user' ? 'You: ' : 'Model: ';
  text.textContent = content;
  item.append(speaker, text);
  list.append(item);
  if (note !== undefined) addNote(item, note);
  return { item, text };
}

function addNote(item, note) {
  const line = document.createElement('span');
  line.className = 'note';
  line.textContent = note;
  item.append(line);
}

function render() {
  list.replaceChildren();
  for (const message of messages) addItem(message);
  element('empty').hidden = messages.length > 0;
  scrollDown();
}

function scrollDown() {
  const main = document.querySelector('main');
  main.scrollTop = main.scrollHeight;
}

/** Follows the text only for a reader who is at its end. */
function isAtEnd() {
  const main = document.querySelector('main');
  return main.scrollHeight - main.scrollTop - main.clientHeight < 80;
}

function save() {
  sessionStorage.setItem(HISTORY_KEY, JSON.stringify(messages));
}

function requestBody() {
  const number = (id) => (element(id).value === '' ? undefined : Number(element(id).value));
  const system = element('system').value;
  return {
    model: model.value,
    messages: [
      ...(system === '' ? [] : [{ role: 'system', content: system }]),
      ...messages.map(({ role, content }) => ({ role, content })),
    ],
    temperature: number('temperature'),
    max_tokens: number('max-tokens'),
    seed: number('seed'),
    stream: true,
    stream_options: { include_usage: true },
  };
}

/** Yields the JSON of each event; throws what the server reports in one. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error('The connection ended before the answer did.');
    buffer += value;
    const blocks = buffer.split('\n\n');
    buffer = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith('data: ')) continue;
      const data = block.slice('data: '.length);
      if (data === '[DONE]') return;
      const event = JSON.parse(data);
      if (event.error !== undefined) throw new ServerError(0, event.error);
      yield event;
    }
  }
}

/** Streams one answer into its item; returns what ended it. */
async function readAnswer(answer, text, signal) {
  const startedAt = performance.now();
  const response = await call('v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(requestBody()),
    signal,
  });
  let firstAt = null;
  let ending = null;
  for await (const { choices, usage } of events(response)) {
    const [choice] = choices;
    const piece = choice?.delta.content ?? '';
    if (piece !== '') {
      firstAt ??= performance.now();
      const follow = isAtEnd();
      answer.content += piece;
      text.textContent = answer.content;
      if (follow) scrollDown();
    }
    ending = choice?.finish_reason ?? ending;
    if (usage) showSpeed(usage, { startedAt, firstAt: firstAt ?? performance.now() });
  }
  return ending;
}

function showSpeed({ prompt_tokens, completion_tokens, prompt_tokens_details }, { startedAt, firstAt }) {
  const seconds = (performance.now() - firstAt) / 1000;
  const speed = completion_tokens > 1 && seconds > 0 ? `${((completion_tokens - 1) / seconds).toFixed(1)} tokens/s` : '';
  element('status').textContent = [
    `${completion_tokens} tokens`,
    speed,
    `first after ${((firstAt - startedAt) / 1000).toFixed(2)} s`,
    `prompt ${prompt_tokens} tokens, ${prompt_tokens_details.cached_tokens} cached`,
  ]
    .filter((part) => part !== '')
    .join(' · ');
}

function setRunning(controller) {
  running = controller;
  element('send').hidden = controller !== null;
  element('stop').hidden = controller === null;
  element('clear').disabled = controller !== null;
  list.setAttribute('aria-busy', String(controller !== null));
}

async function ask(question) {
  const before = messages;
  messages = [...messages, { role: 'user', content: question }];
  render();
  showProblem(null);
  element('status').textContent = 'Working';
  const answer = { role: 'assistant', content: '' };
  const { item, text } = addItem(answer);
  item.classList.add('waiting');
  scrollDown();
  const controller = new AbortController();
  setRunning(controller);
  try {
    const ending = await readAnswer(answer, text, controller.signal);
    if (ending === 'length') answer.note = 'Ended at the longest answer allowed.';
  } catch (error) {
    element('status').textContent = '';
    if (controller.signal.aborted) answer.note = 'Stopped.';
    else if (answer.content !== '') answer.note = 'Broken off.';
    if (!controller.signal.aborted) showProblem(error);
  } finally {
    setRunning(null);
  }
  if (answer.content === '') {
    // Nothing was said: the question goes back where it can be sent again.
    messages = before;
    input.value = question;
  } else {
    messages = [...messages, answer];
  }
  save();
  render();
  input.focus();
}

function growInput() {
  input.style.height = 'auto';
  input.style.height = `${input.scrollHeight + 2}px`;
}

element('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  const question = input.value.trim();
  if (question === '' || running !== null) return;
  input.value = '';
  growInput();
  ask(question);
});

input.addEventListener('input', growInput);
input.addEventListener('keydown', (event) => {
  // Enter also ends the composition of a character; that one must not send.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element('ask').requestSubmit();
});

element('stop').addEventListener('click', () => running?.abort());
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort();
});

element('clear').addEventListener('click', () => {
  messages = [];
  save();
  render();
  showProblem(null);
  element('status').textContent = '';
  input.focus();
});

element('settings-button').addEventListener('click', ({ currentTarget }) => {
  const settings = element('settings');
  settings.hidden = !settings.hidden;
  currentTarget.setAttribute('aria-expanded', String(!settings.hidden));
});

element('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(API_KEY, element('key').value);
  element('key').value = '';
  loadModels();
});

render();
loadModels();
