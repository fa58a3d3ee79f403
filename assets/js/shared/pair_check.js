// @ts-check
// The check of a pair: the state of its job, then its result.
import { roundTicks } from './charts.js';
import { el, setText, svg } from './dom.js';
import { PAPER } from './engine.js';
import { formatCount, formatNats, plural } from './format.js';
import { createCalls } from './poll.js';

export function mount({ element, props, server }) {
  const root = element.querySelector('.lr-pair-check'), call = createCalls(server);
  let run = null, timer = 0;

  function sync() {
    clearTimeout(timer);
    const value = props.value ? JSON.parse(props.value) : {};
    run = value.run || null;
    root.replaceChildren();
    if (value.error) root.append(el('div', { class: 'lr-error', role: 'alert', text: value.error }));
    if (run) look();
  }
  async function look() {
    const mine = run, answer = document.hidden ? null : await call('look', mine);
    if (mine !== run) return;
    if (answer) show(answer);
    if (!answer || (answer.job && isRunning(answer.job))) timer = setTimeout(look, 1000);
  }
  const isRunning = (job) => ['queued', 'running', 'stopping'].includes(job.state);
  function show({ error, job, result }) {
    if (error) root.replaceChildren(el('div', { class: 'lr-error', role: 'alert', text: error }));
    else if (result) root.replaceChildren(assessment(result));
    else if (isRunning(job)) showStatus(job);
    else root.replaceChildren(el('div', { class: job.state === 'failed' ? 'lr-error' : 'lr-muted', role: 'status',
      text: job.message || 'The check ended without a result.' }));
  }
  function showStatus(job) {
    if (!root.querySelector('.lr-checking')) root.replaceChildren(el('div', { class: 'lr-checking' },
      el('span', { class: 'lr-busy', role: 'status' }), el('a', { href: '?tab=jobs&job=' + job.id, text: 'The job' }),
      el('button', { type: 'button', text: 'Cancel', onclick: () => call('halt', run) })));
    setText(root.querySelector('[role="status"]'), job.status || 'Starting');
  }

  const share = (x) => (x === null ? '\u2013' : Math.round(x * 100) + ' %');
  function accuracy(model) {
    if (model.accuracy === null) return 'not known';
    return share(model.accuracy) + ' (' + share(model.low) + ' to ' + share(model.high) + ')';
  }
  function assessment(found) {
    const { probe, expert, amateur } = found, interval = 'Final answers, with the 95 % interval';
    const facts = [['Expert right', accuracy(expert), interval], ['Amateur right', accuracy(amateur), interval],
      ['Cut off', share(expert.truncated) + ', amateur ' + share(amateur.truncated), 'Responses that reached the token limit'],
      ['Mean KL', formatNats(found.mean_kl ?? Infinity) + ' nats', 'Over all steps of the expert\u2019s responses'],
      ['Amateur\u2019s loss', formatNats(found.amateur_loss ?? Infinity) + ' nats', 'Per token, on the expert\u2019s text'],
      ['Memory', (probe.memory_bytes / 1e9).toFixed(probe.memory_bytes < 1e8 ? 2 : 1) + ' GB',
        'Both models, caches and one chunk of logits at the usual batch size']];
    return el('section', { class: 'lr-card lr-tone-' + found.tone, 'aria-label': 'Assessment of the pair' },
      el('ul', { class: 'lr-sentences' }, ...found.verdict.map((text) => el('li', { text }))),
      el('dl', { class: 'lr-facts' }, ...facts.map(([name, text, title]) =>
        el('div', { class: 'lr-fact', title }, el('dt', { text: name }), el('dd', { text })))),
      small('Selected steps by \u03b2', 'share of the steps', found.betas.map((b, i) => [b, probe.kept[i]])),
      bars('Steps by KL', 'nats', found.edges, found.histogram),
      el('p', { text: found.sentence + ' That is for ' + plural(probe.problems, 'problem') + '.' }));
  }
  function frame(title, says, name) {
    const node = el('figure', { class: 'lr-chart' }, el('figcaption', {}, el('b', { text: title }), ' ', el('span', { class: 'lr-muted', text: says })));
    const canvas = svg('svg', { viewBox: '0 0 300 110', role: 'img', 'aria-label': name });
    node.append(canvas);
    return { node, canvas };
  }
  const TOP = 6, BOTTOM = 90, LEFT = 38, RIGHT = 294;
  function grid(canvas, xs, ys) {
    for (const [y, text] of ys) canvas.append(svg('line', { class: 'lr-gridline', x1: LEFT, x2: RIGHT, y1: y, y2: y }), svg('text', { class: 'lr-tick', x: LEFT - 5, y: y + 4, 'text-anchor': 'end', text }));
    for (const [x, text] of xs) canvas.append(svg('text', { class: 'lr-tick', x, y: 106, 'text-anchor': 'middle', text }));
  }
  function small(title, says, points) {
    const near = points.reduce((a, b) => (Math.abs(b[0] - PAPER.beta) < Math.abs(a[0] - PAPER.beta) ? b : a));
    const { node, canvas } = frame(title, says, 'At beta ' + PAPER.beta + ', ' + share(near[1]) + ' of the steps are selected'), most = points[points.length - 1][0];
    const x = (b) => LEFT + Math.sqrt(b / most) * (RIGHT - LEFT), y = (s) => BOTTOM - s * (BOTTOM - TOP);
    grid(canvas, [0.1, PAPER.beta, 1, 2].map((b) => [x(b), b]), [0, 0.5, 1].map((s) => [y(s), s * 100 + ' %']));
    canvas.append(svg('polyline', { class: 'lr-line', points: points.map(([b, s]) => x(b) + ',' + y(s)).join(' ') }),
      svg('line', { class: 'lr-mark-line', x1: x(PAPER.beta), x2: x(PAPER.beta), y1: TOP, y2: BOTTOM }), svg('circle', { class: 'lr-dot', cx: x(near[0]), cy: y(near[1]), r: 4 }));
    return node;
  }
  function bars(title, says, edges, counts) {
    const { node, canvas } = frame(title, says, 'Histogram of the steps by KL'), most = Math.max(1, ...counts), slot = (RIGHT - LEFT) / counts.length;
    const y = (n) => BOTTOM - Math.sqrt(n / most) * (BOTTOM - TOP);
    grid(canvas, [0, 0.01, 0.1, 1, 10].map((kl) => [LEFT + Math.max(0, edges.findIndex((e) => e >= kl - 1e-9)) * slot, kl]), roundTicks(most).map((n) => [y(n), formatCount(n)]));
    counts.forEach((n, i) => { if (n) canvas.append(svg('rect', { class: edges[i] >= PAPER.beta ? 'lr-bar-hot' : 'lr-bar-cool', x: LEFT + i * slot, width: slot * 0.84, y: y(n), height: BOTTOM - y(n) })); });
    return node;
  }
  sync();
  return sync;
}
