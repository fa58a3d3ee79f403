// @ts-check
// The check of a pair: the state of its job, then its result.
import { address } from './address.js';
import { Chart } from './chart.js';
import { createErrorBox, el, setText } from './dom.js';
import { formatNats, plural } from './format.js';
import { createCalls } from './poll.js';

const INTERVAL = 'Final answers, with the 95 % interval';
const isRunning = (job) => ['queued', 'running', 'stopping'].includes(job.state);
const share = (x) => (x === null ? '\u2013' : Math.round(x * 100) + ' %');
function accuracy(model) {
  if (model.accuracy === null) return 'not known';
  return share(model.accuracy) + ' (' + share(model.low) + ' to ' + share(model.high) + ')';
}
/** [name, value, what it is] of a result */
function facts({ probe: { memory_bytes: bytes }, expert, amateur, mean_kl: kl, amateur_loss: loss, compared }) {
  const known = typeof compared === 'number'; // of two tokenizers that differ
  return [['Expert right', accuracy(expert), INTERVAL], ['Amateur right', accuracy(amateur), INTERVAL],
    ['Cut off', share(expert.truncated) + ', amateur ' + share(amateur.truncated),
      'Responses that reached the token limit'],
    ['Mean KL', (known ? '\u2265 ' : '') + formatNats(kl ?? Infinity) + ' nats' +
      (known ? ' \u00b7 ' + share(compared) + ' of the expert\u2019s mass compared' : ''),
    'Over all steps of the expert\u2019s responses'],
    ['Amateur\u2019s loss', loss === undefined ? 'not known' : formatNats(loss ?? Infinity) + ' nats',
      'Per token, on the expert\u2019s text'],
    ['Memory', (bytes / 1e9).toFixed(bytes < 1e8 ? 2 : 1) + ' GB',
      'Both models, caches and one chunk of logits at the usual batch size']];
}
function chart(title, says, name, figure) {
  const made = new Chart({ title, says, name });
  made.draw(figure);
  return made.node;
}
/** The second step: what training with this pair would come to. @param {() => Promise<any>} start */
function nextStep(start) {
  const error = createErrorBox();
  const button = el('button', { type: 'button', text: 'Preview training with this pair', onclick: async () => {
    button.disabled = true;
    const answer = await start();
    button.disabled = false;
    if (!error.show(answer.error)) address.open('evaluate', new URLSearchParams({ run: answer.run }));
  } });
  return el('div', {}, el('p', { class: 'lr-muted', text: 'Next: decode some of these problems by contrast ' +
    'over a grid of \u03b2, which tells without training what fine-tuning would come to.' }), button, error.node);
}
function assessment(found, figures, preview) {
  return el('section', { class: 'lr-card lr-tone-' + found.tone, 'aria-label': 'Assessment of the pair' },
    el('ul', { class: 'lr-sentences' }, ...found.verdict.map((text) => el('li', { text }))),
    el('dl', { class: 'lr-facts' }, ...facts(found).map(([name, text, title]) =>
      el('div', { class: 'lr-fact', title }, el('dt', { text: name }), el('dd', { text })))),
    chart('Selected steps by \u03b2', 'share of the steps', 'pair-selected-by-beta', figures.kept),
    chart('Steps by KL', 'the dashed line is \u03b2', 'pair-steps-by-kl', figures.histogram),
    el('p', { text: found.sentence + ' That is for ' + plural(found.probe.problems, 'problem') + '.' }),
    nextStep(preview));
}

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
  function show({ error, job, result, figures }) {
    if (error) root.replaceChildren(el('div', { class: 'lr-error', role: 'alert', text: error }));
    else if (result) root.replaceChildren(assessment(result, figures, () => call('preview', run)));
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
  sync();
  return sync;
}
