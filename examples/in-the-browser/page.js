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

/** Our own server makes tokens of some minutes with its key; the key never comes here. */
const token = () => tokenFrom('/token', { names: NAMES });
/** For a name that our server chooses. */
const publishToken = () => tokenFrom('/publish-token', {});
async function tokenFrom(path, body) {
  const answer = await fetch(path, { method: 'POST', body: JSON.stringify(body) });
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

/** Name under which this browser keeps what it trains. */
const MINE = 'mine';
const ROWS = [
  ['I was charged twice.', 'billing'],
  ['My invoice has the wrong address.', 'billing'],
  ['When will I get my refund?', 'billing'],
  ['The app closes when I open it.', 'fault'],
  ['I cannot sign in any more.', 'fault'],
  ['The page stays blank.', 'fault'],
  ['Where is my parcel?', 'delivery'],
  ['It arrived at my old address.', 'delivery'],
  ['Can you deliver on Monday?', 'delivery'],
].map(([user, expected]) => ({ user, expected }));

/** Loss by step; the dashed line is of the rows that are held out. */
function draw(points, steps) {
  const most = Math.max(...points.flatMap(([, loss, heldOut]) => [loss, heldOut ?? 0]));
  const line = (which, name) => {
    const drawn = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
    const own = points.filter((point) => point[which] !== null);
    drawn.setAttribute(
      'points',
      own.map((point) => `${(600 * point[0]) / steps},${155 - (150 * point[which]) / most}`).join(' '),
    );
    drawn.setAttribute('class', name);
    return drawn;
  };
  at('curve').replaceChildren(line(1, 'loss'), line(2, 'held-out'));
  at('curve').removeAttribute('hidden');
}

async function train(model, rows, signal) {
  const points = [];
  const trained = await model.train(rows, {
    ...{ name: MINE, rank: 8, leastSteps: 20, signal },
    onProgress(progress) {
      if (progress.stage !== 'train') return;
      const { step, steps, loss, heldOutLoss, tokensPerSecond, secondsLeft } = progress;
      points.push([step, loss, heldOutLoss]);
      draw(points, steps);
      at('training').textContent =
        `Step ${step} of ${steps}: loss ${loss.toFixed(3)}, ${tokensPerSecond.toFixed(0)} tokens a second, ${secondsLeft.toFixed(0)} s left.`;
    },
  });
  const { card, digest } = trained;
  at('training').textContent =
    `Trained on ${card.rows.trained} rows in ${card.seconds.toFixed(0)} s (${digest.slice(0, 12)}); kept in this browser.`;
  const links = Object.entries(await trained.export()).map(([name, blob]) =>
    Object.assign(document.createElement('a'), {
      download: name,
      href: URL.createObjectURL(blob),
      textContent: name,
    }),
  );
  at('export').replaceChildren(...links);
}

/** Sends the adapter and its card; the rows stay here. */
async function publish(trained) {
  const { name, version } = await trained.publish({
    token: publishToken,
    onProgress({ done, total }) {
      at('publication').textContent =
        done < total ? `Sending: ${Math.round((100 * done) / total)} % …` : 'Sent. An origin tries it …';
    },
  });
  at('publication').textContent =
    `Staged as ${name}@${version}. To give it to users, run: graft promote ${name}`;
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
      `${model.version === null ? `${model.name}, trained here,` : `${model.name}@${model.version}`} on ${model.base}${model.offline ? ', as it is stored: the edge cannot be reached' : ''}.`,
    );
  };
  ready();
  const trainedHere = new Option(`${MINE} (trained here)`, MINE);
  const findMine = async () => (await model.trained()).find(({ trained }) => trained === MINE);
  if ((await findMine()) !== undefined) {
    at('name').append(trainedHere);
    at('publish').disabled = false;
  }
  at('publish').addEventListener('click', () => {
    at('publish').disabled = true;
    findMine()
      .then(publish)
      .catch((error) => (at('publication').textContent = error.message))
      .finally(() => (at('publish').disabled = false));
  });
  at('name').addEventListener('change', () => {
    const name = at('name').value;
    model.use(name === MINE ? { trained: MINE } : name).then(ready, fail);
  });
  const button = at('ask').querySelector('button');
  at('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    button.disabled = true;
    ask(model, at('question').value)
      .catch(fail)
      .finally(() => (button.disabled = false));
  });
  button.disabled = false;

  at('rows').value = ROWS.map((row) => JSON.stringify(row)).join('\n');
  const [trainButton, stop] = at('train').querySelectorAll('button');
  at('train').addEventListener('submit', (event) => {
    event.preventDefault();
    const ending = new AbortController();
    stop.onclick = () => ending.abort(new Error('Training was stopped.'));
    [trainButton.disabled, stop.hidden] = [true, false];
    at('training').textContent = 'Preparing …';
    train(model, at('rows').value, ending.signal)
      .then(() => {
        at('name').append(trainedHere);
        at('name').value = MINE;
        at('question').value = 'Why was I charged twice?';
        at('publish').disabled = false;
        ready();
      })
      .catch((error) => {
        at('training').textContent = error.message;
      })
      .finally(() => ([trainButton.disabled, stop.hidden] = [false, true]));
  });
  trainButton.disabled = false;
} catch (error) {
  fail(error);
}
