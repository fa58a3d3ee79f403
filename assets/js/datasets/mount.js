// @ts-check
// The Datasets tab on the Gradio page.
import { address } from '../shared/address.js';
import { createErrorBox, downloadFrom, el } from '../shared/dom.js';
import { PAPER } from '../shared/engine.js';
import { clamp, formatBytes, formatCount } from '../shared/format.js';
import { createCalls, pollWhileVisible, scrollToResult } from '../shared/poll.js';
import { createPull } from '../shared/push_form.js';
import { createRunList, isActive } from '../shared/run_list.js';
import { createExplorer } from './explorer.js';
import { createReader } from './trajectory.js';

export function mount({ element, props, trigger, server }) {
  const DEFAULTS = { alpha: PAPER.alpha, beta: PAPER.beta, selector: 'kl' }, TAB = 'datasets';
  let open = null, reading = null, asked = 0, looked = 0, seen = '', busy = false;
  const call = createCalls(server);

  const count = el('span', { class: 'lr-muted' });
  const list = createRunList({ title: 'Datasets', aside: count, onOpen: (id) => show(id),
    facts: (d) => [d.samples === null ? null : formatCount(d.samples) + ' samples', formatBytes(d.bytes)] });
  const explorer = createExplorer({
    rows: async (query) => {
      const mine = ++asked, answer = await call('rows', open, query);
      return mine === asked ? answer : null;
    },
    open: (row) => read(row.problem, row.sample, row.step),
    mark: (row, kind) => call('mark', open, row.problem, row.sample, row.step, kind),
    act: async (name) => { const answer = await call('act', open, name); look(true); return answer; },
    remove: async () => {
      const answer = await call('discard', open);
      if (!answer.error) { show(null); look(true); }
      return answer;
    },
    download: async (format, { alpha, beta, selector }) => {
      const answer = await call('prepare', open, format, alpha, beta, selector);
      if (!answer.error) downloadFrom(answer.url, answer.name);
      return answer;
    },
    push: (kind, form) => call('push', open, kind, form), pushed: () => call('pushed', open),
    refresh: () => look(true),
    address: writeAddress,
  });
  const empty = el('section', { class: 'lr-card lr-empty', hidden: true }, el('h2', { text: props.intro.title }),
    ...props.intro.sentences.map((text) => el('p', { text })),
    el('button', { type: 'button', class: 'lr-primary', text: 'Build dataset',
      onclick: () => document.querySelector('#lr-ds-build')?.click() }));
  const pull = createPull({ pull: (repo, token) => call('pull', repo, token), pulled: (job) => call('pulled', job),
    done: (run) => { show(run); look(true); } });
  const hint = el('p', { class: 'lr-muted lr-hint', hidden: true, text: 'Select a dataset to explore it.' });
  const error = createErrorBox();
  const reader = createReader({
    load: (problem, sample, step) => call('trajectory', open, problem, sample, step),
    file: (...where) => call('trace_file', open, ...where),
    mark: (problem, sample, step, kind) => call('mark', open, problem, sample, step, kind),
    close: () => {
      reading = null;
      place(); writeAddress(); look(true); explorer.rows(); explorer.focus();
    },
    moved: (step, settings) => {
      if (!reading) return;
      reading.step = step;
      explorer.adopt(settings);
      writeAddress();
    },
  });
  const root = element.querySelector('.lr-root');
  root.classList.add('lr', 'lr-data', 'lr-has-run'); // the reader's viewer is inside: no part of it is to be hidden
  root.replaceChildren(error.node, list.node, hint, empty, explorer.node, reader.node, pull.node);

  function writeAddress() {
    const settings = explorer.settings();
    const selection = Object.entries(DEFAULTS).map(([name, usual]) =>
      [name, open && settings[name] !== usual ? settings[name] : null]);
    address.set(TAB, { dataset: open, problem: reading && reading.problem, sample: reading && reading.sample,
      step: reading && reading.step >= 0 ? reading.step : null, ...Object.fromEntries(selection) });
  }
  function place() { // the list and the dataset, or one of its trajectories
    for (const node of [list.node, explorer.node, hint, pull.node]) node.classList.toggle('lr-away', !!reading);
    reader.node.hidden = !reading;
  }
  function show(id, settings = DEFAULTS) {
    open = id; reading = null; seen = ''; looked += 1;
    explorer.begin(settings);
    place(); writeAddress();
    error.show('');
    if (id) look(true);
  }
  function read(problem, sample, step) {
    reading = { problem, sample, step };
    place(); writeAddress();
    reader.open(problem, sample, step, explorer.settings());
  }

  // The state of the list and of the open dataset, whose numbers come again only when they changed.
  async function look(all) {
    if (busy && !all) return;
    busy = true;
    const mine = (looked += all ? 1 : 0), { alpha, beta, selector } = explorer.settings();
    const answer = await call('overview', open, alpha, beta, selector, all ? '' : seen);
    busy = false;
    if (mine !== looked) return; // a later request is on its way
    error.show(answer.error);
    if (!answer.datasets) return;
    const there = answer.datasets.length;
    list.show(answer.datasets, open);
    count.textContent = there > 1 ? formatCount(there) : '';
    empty.hidden = there > 0 || !!answer.error;
    hint.hidden = !there || !!open;
    if (!answer.open) {
      if (open && answer.error) explorer.node.hidden = true;
    } else if (answer.open.unchanged) explorer.showState(answer.open);
    else {
      const grew = seen && !reading && explorer.data;
      seen = answer.open.version;
      explorer.show(answer.open);
      if (grew && !(explorer.inUse && answer.open.state === 'running')) explorer.rows(); // not under the user's hands
    }
  }
  pollWhileVisible(element, () => explorer.data && isActive(explorer.data.state), () => look(false));

  function follow(params) {
    const numberOf = (name) => {
      const x = Number(params.get(name));
      return params.has(name) && Number.isFinite(x) ? x : null;
    };
    show(params.get('dataset'), { alpha: clamp(numberOf('alpha') ?? PAPER.alpha, PAPER.alphaFloor, 1),
      beta: clamp(numberOf('beta') ?? PAPER.beta, 0, 3), selector: params.get('selector') || 'kl' });
    if (open && params.has('problem')) read(params.get('problem'), numberOf('sample') ?? 0, numberOf('step') ?? -1);
    if (!open) look(true);
  }
  address.watch(TAB, follow);
  follow(address.get(TAB));
  return () => {
    if (!props.value) return;
    const { open: id } = JSON.parse(props.value);
    if (id && id !== open) show(id); else look(true);
    scrollToResult(element);
  };
}
