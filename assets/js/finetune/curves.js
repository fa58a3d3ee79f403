// @ts-check
// The training curves of a run, or of several over one another: a chart for each quantity, and one toolbar for all.
import { createSlider } from '../shared/chart.js';
import { el } from '../shared/dom.js';
import { formatNumber } from '../shared/format.js';
import { AXES, CurveChart } from './curve_chart.js';

const MOST_SMOOTH = 50;
const CLOCKS = [{ seconds: 1, name: 'seconds' }, { seconds: 60, name: 'minutes' }, { seconds: 3600, name: 'hours' }];
const NOT_RECORDED = { samples: 'The number of samples was not recorded', seconds: 'The time was not recorded' };
const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

/**
 * Buttons of which one is pressed. disabled(key): why it cannot be, or ''.
 * @param {string} label @param {string[][]} options @param {(key: any) => void} onPick
 */
function createChoice(label, options, onPick) {
  const buttons = options.map(([key, text]) => el('button', { 'data-key': key, text, onclick: () => onPick(key) }));
  const node = el('div', { class: 'lr-choice', role: 'group', 'aria-label': label }, el('span', { text: label }),
    ...buttons);
  return { node, show(chosen, disabled = (_key) => '') {
    for (const button of buttons) {
      const why = disabled(button.dataset.key);
      button.setAttribute('aria-pressed', String(button.dataset.key === chosen));
      button.disabled = !!why;
      button.title = why;
    }
  } };
}

export class Curves {
  constructor() {
    /** @type {Map<string, CurveChart>} */ this.charts = new Map();
    /** @type {import('./curve_chart.js').View} */
    this.view = { along: 'update', scale: 'linear', smooth: 10, hidden: new Set(), zoom: null, cursor: null,
      clock: CLOCKS[0] };
    this.waiting = new Set();
    this.drawing = false;
    this.marks = {}; // of the figures that it has
    this.x = createChoice('x axis', [['update', 'Steps'], ['samples', 'Samples'], ['seconds', 'Time']], (along) =>
      this.change({ along, zoom: null, cursor: null }));
    this.y = createChoice('y axis', [['linear', 'Linear'], ['log', 'Log']], (scale) => {
      this.change({ scale });
      this.charts.forEach((chart) => chart.setScale(scale));
    });
    this.smooth = createSlider({ name: 'Smoothing', label: 'Smoothing: how many points a trailing mean is over', min: 0,
      max: MOST_SMOOTH, step: 1, onInput: (smooth) => this.change({ smooth }) });
    this.read = createSlider({ name: 'Read at', label: 'Training step to read the curves at', min: 0, max: 0, step: 1,
      onInput: (i) => this.readAt(i) });
    this.read.input.addEventListener('focus', () => this.readAt(Number(this.read.input.value)));
    this.read.input.addEventListener('blur', () => this.point(null));
    this.whole = el('button', { text: 'Reset zoom', onclick: () => {
      this.zoom(null);
      /** @type {HTMLElement} */ (this.x.node.querySelector('[aria-pressed=true]')).focus(); // this one vanishes
    } });
    this.grid = el('div', { class: 'lr-line-charts' });
    this.tools = el('div', { class: 'lr-curve-tools', role: 'group', 'aria-label': 'How all curves are drawn' },
      this.x.node, this.y.node, this.smooth.node, this.read.node, this.whole);
    this.node = el('div', { class: 'lr-curve-group' }, this.tools, this.grid);
    this.showTools();
  }
  /** Other curves than before. */
  reset() {
    this.marks = {};
    Object.assign(this.view, { zoom: null, cursor: null });
    this.view.hidden.clear();
    this.charts.forEach((chart) => { chart.zoomY = null; });
  }
  /** @param {{ marks: Record<string, string>, changed: Record<string, any> }} figures all marks, what changed */
  show({ marks, changed }) {
    this.marks = marks;
    const added = Object.keys(marks).filter((key) => !this.charts.has(key));
    for (const key of added) this.add(key, changed[key]);
    if (added.length) this.grid.append(...Object.keys(marks).map((key) => this.charts.get(key).node));
    this.charts.forEach((chart, key) => { chart.node.hidden = !(key in marks); });
    for (const [key, figure] of Object.entries(changed)) this.charts.get(key).draw(figure);
    const times = this.figures.flatMap(({ data }) => data.map(({ customdata: rows }) => rows[rows.length - 1][1] || 0));
    const longest = Math.max(0, ...times);
    this.view.clock = CLOCKS[longest < 120 ? 0 : longest < 7200 ? 1 : 2];
    if (this.missing(this.view.along)) this.view.along = 'update';
    this.node.hidden = !this.shown.length;
    this.showTools();
  }
  add(key, figure) {
    const { meta } = figure.layout, chart = new CurveChart(key, meta, this.view, {
      want: (one) => this.want(one), zoom: (range) => this.zoom(range), point: (x) => this.point(x),
      hide: (names) => this.change({ hidden: new Set(names) }) });
    chart.scale = this.view.scale;
    this.charts.set(key, chart);
  }
  /** The charts of what was measured. */
  get shown() { return Object.keys(this.marks).map((key) => this.charts.get(key)); }
  get figures() { return this.shown.map((chart) => chart.figure); }
  missing(along) {
    return this.figures.every(({ layout }) => layout.meta.along.includes(along)) ? '' : NOT_RECORDED[along];
  }

  /** @param {Partial<import('./curve_chart.js').View>} changes */
  change(changes) {
    Object.assign(this.view, changes);
    this.showTools();
    this.charts.forEach((chart) => chart.redraw());
  }
  showTools() {
    const { along, scale, smooth, zoom } = this.view;
    this.x.show(along, (key) => this.missing(key));
    this.y.show(scale);
    this.smooth.show(smooth, smooth > 1 ? 'mean of ' + smooth : 'none');
    this.whole.hidden = !zoom;
    const last = this.line ? this.line.x.length - 1 : 0;
    this.read.input.max = String(last);
    if (this.view.cursor === null) this.read.show(last, 'the last point');
  }
  /** @param {[number, number] | null} zoom */
  zoom(zoom) {
    this.charts.forEach((chart) => { if (!zoom) chart.zoomY = null; });
    this.change({ zoom });
  }

  /** Draws a chart when it is its turn. */
  async want(chart) {
    this.waiting.add(chart);
    if (this.drawing) return;
    this.drawing = true;
    try {
      for (const next of this.waiting) {
        this.waiting.delete(next);
        await frame();
        await next.paint();
      }
    } finally { this.drawing = false; }
    this.showTools();
  }

  /** The longest series of the first chart, along whose points the cursor moves. */
  get line() {
    const [first] = this.shown;
    return first?.lines.reduce((long, one) => (one.x.length > long.x.length ? one : long), first.lines[0]);
  }
  readAt(i) {
    if (!this.line) return;
    const [{ options: { title }, lines, figure }] = this.shown, x = this.line.x[i];
    const { unit } = figure.layout.meta, { along, clock } = this.view;
    const says = lines.map(({ name, x: xs, y }) =>
      (lines.length > 1 ? name + ' ' : '') + formatNumber(y[xs.indexOf(x)]) + ' ' + unit);
    this.point(x);
    this.read.show(i, AXES[along].at(x, clock));
    this.read.input.setAttribute('aria-valuetext', AXES[along].at(x, clock) + ', ' + title + ' ' + says.join(', '));
  }
  /** @param {number | null} x */
  point(x) {
    if (x === this.view.cursor) return;
    this.view.cursor = x;
    this.charts.forEach((chart) => chart.point());
    this.showTools();
  }
}
