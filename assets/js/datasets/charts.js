// @ts-check
// The charts of a dataset (figures of lightreasoner/datasets/figures.py) and the sliders below them.
import { Chart, createSlider } from '../shared/chart.js';
import { el, labelled } from '../shared/dom.js';
import { clamp, plural } from '../shared/format.js';

const PAUSE = 200; // milliseconds after the last movement until the steps of a range are asked for

/**
 * Steps by a measure, and the range whose steps are listed: a part of the chart that was dragged over, or two sliders.
 */
export class Histogram {
  /**
   * @param {{ measure: string, name: string }} options of the measure in sentences, and of saved files
   * @param {(range: [number | null, number | null] | null) => void} onBrush lowest and highest; null: no bound
   */
  constructor({ measure, name }, onBrush) {
    this.measure = measure;
    this.onBrush = onBrush;
    this.edges = [0];
    this.range = null; // in bins, the second not included
    this.timer = 0;
    this.chart = new Chart({ title: 'Steps by ' + measure, says: 'drag to list a range', name,
      onBrush: (range) => this.brush(range && [Math.floor(range[0]), Math.ceil(range[1])], 0) });
    const slider = (label, text, at) => createSlider({ name: label, label: text, min: 0, max: 1, step: 1,
      onInput: (value) => this.nudge(at, value) });
    this.sliders = [slider('From', 'Lowest ' + measure + ' shown', 0),
      slider('To', 'Highest ' + measure + ' shown', 1)];
    this.said = el('span', { class: 'lr-brush-said', role: 'status' });
    this.clear = el('button', { hidden: true, text: 'Show all', onclick: () => this.brush(null, 0) });
    this.chart.node.append(el('div', { class: 'lr-chart-sliders' }, ...this.sliders.map(({ node }) => node)),
      el('div', { class: 'lr-brush-line' }, this.said, this.clear));
    this.chart.node.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.range) { event.stopPropagation(); this.brush(null, 0); }
    });
  }
  get bins() { return this.edges.length - 1; }

  /** beta: where the threshold is, if it moves. */
  draw(figure, beta = null) {
    const bins = figure.data[0].customdata;
    this.counts = figure.data[0].y;
    this.edges = [...bins.map(([low]) => low), bins[bins.length - 1][1]];
    this.chart.draw(figure);
    for (const { input } of this.sliders) input.max = String(this.bins);
    if (beta !== null) this.mark(beta);
    this.place();
  }
  /** Where β is. */
  mark(beta) {
    const after = this.edges.findIndex((edge) => edge > beta), [low, high] = [this.edges[after - 1], this.edges[after]];
    const x = after < 0 ? this.bins : after - 1 + (beta - low) / (high - low);
    this.chart.move({ beta: { x0: x, x1: x }, 'below-beta': { x1: x } });
  }
  nudge(which, value) {
    const next = this.range ? [...this.range] : [0, this.bins];
    next[which] = which ? Math.max(value, next[0] + 1) : Math.min(value, next[1] - 1);
    this.brush(next, PAUSE);
  }
  brush(next, wait) {
    const inside = next?.map((bin) => clamp(bin, 0, this.bins)), all = !inside || inside[1] - inside[0] === this.bins;
    const before = String(this.range);
    this.range = all ? null : inside;
    this.place();
    if (String(this.range) === before) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.onBrush(this.kl()), wait);
  }
  /** The range in nats. The last bin includes everything above. @returns {[number | null, number | null] | null} */
  kl() {
    if (!this.range) return null;
    const [low, high] = this.range;
    return [low > 0 ? this.edges[low] : null, high < this.bins ? this.edges[high] : null];
  }
  place() {
    const [low, high] = this.range || [0, this.bins];
    const name = (bin) => (bin >= this.bins ? '∞' : String(Number(this.edges[bin].toPrecision(3))));
    this.sliders[0].show(low, name(low));
    this.sliders[1].show(high, name(high));
    this.chart.move({ shown: this.range ? { x0: low, x1: high } : { x0: -2, x1: -2 } });
    this.clear.hidden = !this.range;
    const steps = this.counts.slice(low, high).reduce((sum, n) => sum + n, 0);
    this.said.textContent = this.range
      ? `${plural(steps, 'step')} with ${this.measure} from ${name(low)} to ${name(high)} nats` : '';
  }
  reset() { this.range = null; clearTimeout(this.timer); }
}

const infinite = (text) => (text.trim() === '' || text.trim() === '∞' ? Infinity : Number(text));
/** Bounds in a number's field: what was typed, or ∞. */
const written = (bound) => (bound === Infinity ? '' : String(Number(bound.toPrecision(3))));

/**
 * The expert's entropy against KL, and the box whose steps are listed: a part of the chart that was dragged over, or
 * four numbers of nats. The steps in it can be made the ones that are trained on.
 */
export class Plane {
  /**
   * @param {(box: number[] | null) => void} onLook the box: entropy from and to, KL from and to; null: all steps
   * @param {(box: number[] | null) => void} onTrain only its steps are to be training samples; null: all may be
   */
  constructor(onLook, onTrain) {
    this.onLook = onLook;
    this.onTrain = onTrain;
    this.box = this.trained = null;
    this.timer = 0;
    this.chart = new Chart({ title: 'Entropy and KL', name: 'entropy-and-kl',
      says: 'the more orange, the more a step teaches; drag a box to list its steps',
      onBox: (range) => this.look(range && [range.x, range.y].flatMap((ends) =>
        [Math.min(...ends), Math.max(...ends)].map((root) => Math.max(0, root) ** 2)), 0) });
    this.fields = ['Entropy from', 'Entropy to', 'KL from', 'KL to'].map((name, at) => {
      const input = el('input', { type: 'text', inputmode: 'decimal', placeholder: at % 2 ? '∞' : '0',
        'aria-label': name + ', in nats', oninput: () => this.type() });
      return { input, node: labelled(name, input) };
    });
    this.train = el('button', { text: 'Train on the steps of this box', onclick: () => onTrain(this.box) });
    this.everywhere = el('button', { text: 'Train on steps outside, too', onclick: () => onTrain(null) });
    this.clear = el('button', { text: 'Clear box', onclick: () => this.look(null, 0) });
    this.drawn = el('p', { class: 'lr-muted' });
    this.chart.node.append(this.drawn, el('div', { class: 'lr-box-fields' }, ...this.fields.map(({ node }) => node)),
      el('div', { class: 'lr-buttons' }, this.clear, this.train, this.everywhere));
    this.chart.node.classList.add('lr-plane');
    this.place();
  }
  draw(figure) {
    this.drawn.textContent = figure.layout.meta.says;
    this.chart.draw(figure);
    this.place();
  }
  /** The box as the selection of training samples has it: "0:1:0.4:inf"; null for none. */
  mark(trained) {
    this.trained = trained;
    this.place();
  }
  type() {
    const box = this.fields.map(({ input }, at) => (at % 2 ? infinite(input.value) : Number(input.value || 0)));
    const sound = box.every((bound) => bound >= 0) && box[0] < box[1] && box[2] < box[3];
    for (const { input } of this.fields) input.setAttribute('aria-invalid', String(!sound));
    if (sound) this.look(box, PAUSE);
  }
  look(box, wait) {
    const all = !box || (box[0] <= 0 && box[1] === Infinity && box[2] <= 0 && box[3] === Infinity);
    this.box = all ? null : box.map((bound) => (bound === Infinity ? bound : Number(bound.toPrecision(3))));
    this.place();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.onLook(this.box), wait);
  }
  place() {
    const { box } = this, far = (bound) => Math.sqrt(Math.min(bound, 1e4));
    this.chart.move({ shown: box ? { x0: far(box[0]), x1: far(box[1]), y0: far(box[2]), y1: far(box[3]) }
      : { x0: -2, x1: -2, y0: -2, y1: -2 } });
    this.fields.forEach(({ input }, at) => {
      if (document.activeElement === input) return;
      input.value = box ? written(box[at]) : '';
      input.removeAttribute('aria-invalid');
    });
    this.clear.disabled = this.train.disabled = !box;
    this.everywhere.hidden = !this.trained;
  }
  reset() { this.box = this.trained = null; clearTimeout(this.timer); this.place(); }
}

/** A share against β or α, with a slider; a click on the chart sets the value, too. */
export class ThresholdChart {
  /**
   * @param {{ title: string, says: string, name: string, label: string, symbol: string, shape: string, min: number,
   *   max: number, onInput: (value: number) => void }} options
   */
  constructor({ title, says, name, label, symbol, shape, min, max, onInput }) {
    this.title = title;
    this.shape = shape;
    this.chart = new Chart({ title, says, name, onClick: ({ x }) => onInput(x) });
    this.slider = createSlider({ name: symbol, label, min, max, step: 0.01, onInput });
    this.now = el('p', { class: 'lr-chart-now' });
    this.chart.node.append(this.slider.node, this.now);
  }
  /** What holds at a value: the main number, and the rest. @param {number} value @param {string[]} says */
  mark(value, [main, rest]) {
    this.slider.show(value, value.toFixed(2));
    this.chart.move({ [this.shape]: { x0: value, x1: value } });
    this.now.replaceChildren(el('b', { text: main }), rest);
    this.chart.describe(this.title + ': at ' + value.toFixed(2) + ', ' + main + rest);
  }
}

/** Mean KL of each token category; a click on one lists only its steps, a second click all again. */
export class CategoryChart {
  /** @param {(kind: string) => void} onPick */
  constructor(onPick) {
    this.picked = '';
    this.chart = new Chart({ title: 'Token categories', name: 'token-categories',
      says: 'click to list its steps',
      onClick: ({ pointIndex }) => onPick(this.kinds[pointIndex] === this.picked ? '' : this.kinds[pointIndex]) });
  }
  draw(figure) {
    const [{ customdata }] = figure.data;
    this.kinds = customdata.map(([, kind]) => kind);
    this.chart.draw(figure);
    this.pick(this.picked);
  }
  pick(kind) {
    const at = this.kinds?.indexOf(kind) ?? -1;
    this.picked = kind;
    this.chart.move({ chosen: at < 0 ? { y0: -2, y1: -2 } : { y0: at - 0.5, y1: at + 0.5 } });
  }
}
