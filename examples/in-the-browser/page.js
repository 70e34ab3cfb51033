// The base is fetched once and stays in this browser; adapters come by name from the edge. Nothing that is asked leaves.
import { open } from '/graft/index.js';

const NAMES = ['medicine/cardiology/dr-lee', 'medicine/cardiology', 'medicine', 'support/intent'];
const at = (id) => document.getElementById(id);
const say = (text) => (at('state').textContent = text);
const WORDS = {
  check: 'Checking stored files against their digests',
  base: 'Downloading the base, once',
  runtime: 'Starting',
  adapter: 'Downloading the adapter',
};

/** Our own server makes a token of some minutes with its key; the key never comes here. */
async function token() {
  const answer = await fetch('/token', { method: 'POST', body: JSON.stringify({ names: NAMES }) });
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()).token;
}

function onProgress({ stage, done, total }) {
  say(`${WORDS[stage]} …`);
  at('progress').value = total > 0 ? done / total : 0;
}

async function ask(model, question) {
  const began = performance.now();
  let first = 0;
  let tokens = 0;
  at('answer').textContent = '';
  const options = { temperature: 0, max_tokens: 96, stream_options: { include_usage: true } };
  for await (const part of model.chat([{ role: 'user', content: question }], options)) {
    const text = part.choices[0]?.delta.content ?? '';
    if (text !== '' && first === 0) first = performance.now();
    at('answer').textContent += text;
    tokens = part.usage?.completion_tokens ?? tokens;
  }
  const seconds = (performance.now() - first) / 1000;
  at('speed').textContent =
    `${tokens} tokens, the first after ${((first - began) / 1000).toFixed(2)} s, then ${((tokens - 1) / seconds).toFixed(1)} a second; ${model.runtime}.`;
}

function fail(error) {
  say(`${error.message}${error.code === undefined ? '' : ` (${error.code})`}`);
}

try {
  at('name').append(...NAMES.map((name) => new Option(name)));
  const { url, base } = await (await fetch('/settings')).json();
  const model = await open({ url, base, name: NAMES[0], token, onProgress });
  const ready = () => {
    at('progress').value = 1;
    say(
      `${model.name}@${model.version} on ${model.base}${model.offline ? ', as it is stored: the edge cannot be reached' : ''}.`,
    );
  };
  ready();
  at('name').addEventListener('change', () => model.use(at('name').value).then(ready, fail));
  const button = at('ask').querySelector('button');
  at('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    button.disabled = true;
    ask(model, at('question').value)
      .catch(fail)
      .finally(() => (button.disabled = false));
  });
  button.disabled = false;
} catch (error) {
  fail(error);
}
