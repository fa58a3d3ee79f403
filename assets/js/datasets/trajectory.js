// @ts-check
// One trajectory of a dataset in the inspector's own view; a sample of an imported set as far as it is known.
import { EXPORTS, exportFile } from '../inspect/exports.js';
import { probabilityBar } from '../inspect/step_view.js';
import { createCurve } from '../inspect/kl_curve.js';
import { Viewer, showRecord } from '../inspect/viewer.js';
import { createErrorBox, el, muted } from '../shared/dom.js';
import { formatNats, tokenLabel } from '../shared/format.js';
import { markButtons } from './step_table.js';

/** The target of an imported sample, whose trajectory and amateur are not known; the problem and the prefix with it. */
function sampleParts({ question, prefix, tokens, weights, step, kl }) {
  const order = weights.map((_, i) => i).sort((a, b) => weights[b] - weights[a]);
  const row = (i) => el('li', { class: 'lr-target-row' },
    el('span', { class: 'lr-label', text: tokenLabel(tokens[i]) }),
    probabilityBar('target', weights[i]));
  return [el('h3', { text: 'Step ' + step }),
    el('p', { class: 'lr-verdict lr-yes' }, el('b', { text: 'KL ' + formatNats(kl ?? Infinity) + ' nats' }),
      '. Imported: the distributions of the two models are not known.'),
    el('blockquote', { class: 'lr-question', tabindex: '0', 'aria-label': 'The problem', text: question }),
    el('pre', { class: 'lr-prefix', tabindex: '0', role: 'region', 'aria-label': 'The response before this step' },
      el('bdi', { text: prefix || '∅' })),
    el('div', { class: 'lr-key' }, el('span', { class: 'lr-target', text: 'Contrastive target' })),
    el('ol', { class: 'lr-rows' }, ...order.map(row))];
}

export class Reader {
  constructor(host) {
    this.host = host;
    this.at = null; // { problem, sample, step, ready, why }
    this.record = null;
    this.marks = {};
    this.error = createErrorBox();
    this.stage = el('div');
    this.name = el('span', { class: 'lr-reader-name' });
    this.marking = el('span', { class: 'lr-reader-marks' });
    this.sample = el('section', { class: 'lr-card lr-imported', 'aria-label': 'The sample', hidden: true });
    this.back = el('button', { text: '‹ Back to the dataset', onclick: host.close });
    this.node = el('section', { class: 'lr-reader', 'aria-label': 'A trajectory of the dataset', hidden: true },
      el('div', { class: 'lr-card lr-reader-bar' }, this.back, this.name, this.marking), this.error.node, this.stage,
      this.sample);
    this.viewer = new Viewer(this.stage, { curve: createCurve, idle: '',
      kinds: EXPORTS.map(([kind, title]) =>
        [kind, kind === 'json' ? 'The trajectory in the format of a trace' : title]),
      details: async (_run, index) =>
        ({ candidates: this.record.steps[index].candidates, tokens: this.record.tokens, why: this.at.why }),
      export: (kind, _run, { alpha, beta, cap, curve, name }) =>
        exportFile(kind, name, () => host.file(this.at.problem, this.at.sample, kind, alpha, beta, curve, cap)),
      address: ({ step, alpha, beta, cap }) => {
        if (!this.at.ready) return;
        this.at.step = step;
        this.drawMarks();
        host.moved(step, { alpha, beta, cap });
      } });
  }
  drawMarks() {
    const { marks, marking } = this, { problem, sample, step } = this.at;
    marking.replaceChildren();
    if (step < 0) return;
    const set = async (kind) => {
      const answer = await this.host.mark(problem, sample, step, kind);
      if (!answer.error) {
        if (kind) marks[step] = kind; else delete marks[step];
        this.viewer.mark(marks);
      }
      return this.error.show(answer.error);
    };
    marking.append(muted('Mark step ' + step), markButtons('step ' + step, marks[step] || null, set));
  }
  async open(problem, sample, step, selection) {
    const mine = (this.at = { problem, sample, step, ready: false, why: '' });
    this.error.show('');
    this.name.textContent = 'Problem ' + problem + (sample ? ', sample ' + sample : '');
    const answer = await this.host.load(problem, sample, step);
    if (mine !== this.at) return;
    this.stage.hidden = !!answer.error || !!answer.sample;
    this.sample.hidden = !answer.sample;
    if (this.error.show(answer.error)) return;
    if (answer.sample) this.drawSample(answer.sample, step); else this.drawTrajectory(answer, step, selection);
    this.back.focus({ preventScroll: true });
    if (!answer.sample) this.node.scrollIntoView({ block: 'start' });
  }
  drawSample(sample, step) {
    this.marks = sample.mark ? { [step]: sample.mark } : {};
    this.at.ready = true;
    this.sample.replaceChildren(...sampleParts(sample));
    this.drawMarks();
  }
  drawTrajectory({ record, marks, why }, step, { alpha, beta, cap }) {
    Object.assign(this, { record, marks });
    this.at.why = why;
    showRecord(this.viewer, record);
    this.viewer.setBeta(beta);
    this.viewer.setAlpha(alpha);
    this.viewer.setCap(cap);
    this.viewer.mark(marks);
    this.at.ready = true;
    if (step >= 0) this.viewer.select(Math.min(step, record.steps.length - 1), false);
  }
}
