// @ts-check
// One trajectory of a dataset in the inspector's own view; a sample of an imported set as far as it is known.
import { EXPORTS, exportFile } from '../inspect/exports.js';
import { probabilityBar } from '../inspect/step_view.js';
import { createCurve } from '../inspect/kl_curve.js';
import { Viewer, showRecord } from '../inspect/viewer.js';
import { createErrorBox, el } from '../shared/dom.js';
import { formatNats, tokenLabel } from '../shared/format.js';
import { markButtons } from './step_table.js';

export function createReader(host) {
  let at = null, record = null, marks = {};
  const error = createErrorBox(), stage = el('div');
  const name = el('span', { class: 'lr-reader-name' }), marking = el('span', { class: 'lr-reader-marks' });
  const sample = el('section', { class: 'lr-card lr-imported', 'aria-label': 'The sample', hidden: true });
  const back = el('button', { type: 'button', text: '\u2039 Back to the dataset', onclick: host.close });
  const node = el('section', { class: 'lr-reader', 'aria-label': 'A trajectory of the dataset', hidden: true },
    el('div', { class: 'lr-card lr-reader-bar' }, back, name, marking), error.node, stage, sample);

  const viewer = new Viewer(stage, {
    curve: createCurve,
    idle: '',
    kinds: EXPORTS.map(([kind, title]) => [kind, kind === 'json' ? 'The trajectory in the format of a trace' : title]),
    details: async (run, index) => ({ candidates: record.steps[index].candidates, tokens: record.tokens, why: at.why }),
    export: (kind, run, { alpha, beta, curve, name: file }) =>
      exportFile(kind, file, () => host.file(at.problem, at.sample, kind, alpha, beta, curve)),
    address: ({ step, alpha, beta }) => {
      if (!at.ready) return;
      at.step = step;
      drawMarks();
      host.moved(step, { alpha, beta });
    },
  });

  function drawMarks() {
    const { problem, sample: n, step } = at;
    marking.replaceChildren();
    if (step < 0) return;
    const set = async (kind) => {
      const answer = await host.mark(problem, n, step, kind);
      if (!answer.error) { if (kind) marks[step] = kind; else delete marks[step]; }
      return error.show(answer.error);
    };
    marking.append(el('span', { class: 'lr-muted', text: 'Mark step ' + step }),
      markButtons('step ' + step, marks[step] || null, set));
  }
  // An imported sample has no trajectory and no amateur: only the problem, the prefix and the target.
  function drawSample({ question, prefix, tokens, weights, step, kl }) {
    const order = weights.map((_, i) => i).sort((a, b) => weights[b] - weights[a]);
    const row = (i) => el('li', { class: 'lr-target-row' },
      el('span', { class: 'lr-label', text: tokenLabel(tokens[i]) }),
      probabilityBar('target', weights[i]));
    sample.replaceChildren(el('h3', { text: 'Step ' + step }),
      el('p', { class: 'lr-verdict lr-yes' }, el('b', { text: 'KL ' + formatNats(kl ?? Infinity) + ' nats' }),
        '. Imported: the distributions of the two models are not known.'),
      el('blockquote', { class: 'lr-question', tabindex: '0', 'aria-label': 'The problem', text: question }),
      el('pre', { class: 'lr-prefix', tabindex: '0', role: 'region', 'aria-label': 'The response before this step' },
        el('bdi', { text: prefix || '\u2205' })),
      el('div', { class: 'lr-key' }, el('span', { class: 'lr-target', text: 'Contrastive target' })),
      el('ol', { class: 'lr-rows' }, ...order.map(row)));
  }
  function drawTrajectory(answer, step, { alpha, beta }) {
    record = answer.record;
    at.why = answer.why;
    showRecord(viewer, record);
    viewer.setBeta(beta);
    viewer.setAlpha(alpha);
    at.ready = true;
    if (step >= 0) viewer.select(Math.min(step, record.steps.length - 1), false);
  }
  async function open(problem, n, step, settings) {
    const mine = (at = { problem, sample: n, step, ready: false });
    error.show('');
    name.textContent = 'Problem ' + problem + (n ? ', sample ' + n : '');
    const answer = await host.load(problem, n, step);
    if (mine !== at) return;
    stage.hidden = !!answer.error || !!answer.sample;
    sample.hidden = !answer.sample;
    if (error.show(answer.error)) return;
    marks = answer.sample ? (answer.sample.mark ? { [step]: answer.sample.mark } : {}) : answer.marks;
    if (answer.sample) {
      at.ready = true;
      drawSample(answer.sample);
      drawMarks();
    } else drawTrajectory(answer, step, settings);
    back.focus({ preventScroll: true });
    if (!answer.sample) node.scrollIntoView({ block: 'start' });
  }
  return { node, open };
}
