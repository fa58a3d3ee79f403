// @ts-check
// KL and the teaching signal over the steps, under the text: the figure of lightreasoner/tracing/figures.py, filled as
// the steps come.
import { Chart } from '../shared/chart.js';
import { FIGURES } from '../shared/engine_data.js';
import { formatCount, plural, tokenLabel } from '../shared/format.js';
import { isAbove } from './measures.js';

const PAUSE = 200; // milliseconds at least between two drawings while steps come
const DASHES = ['dash', 'dot', 'dashdot']; // of further amateurs, told apart without their colours, too
const NARROWEST = 24; // steps that the axis has room for from the start

const escaped = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

/** The figure with these steps in it. A value that is infinite (null in a step) has no point. */
function filled(steps, beta, run, others) {
  const figure = JSON.parse(JSON.stringify(FIGURES.kl)), tuned = steps.some((step) => step.tuned_kl !== undefined);
  if (!tuned) figure.data = figure.data.filter(({ meta }) => meta !== 'tuned_kl');
  const first = figure.data.findIndex(({ meta }) => meta === 'teaching');
  figure.data.push(...others.map((other, i) => ({ ...figure.data[first], meta: other.key,
    name: 'expert ‖ ' + escaped(other.reader) + (other.least ? ', at least' : ''),
    hovertemplate: 'KL %{customdata[1]:.3f} nats<extra></extra>',
    line: { ...figure.data[first].line, color: `var(--lr-series-${i + 1})`, dash: DASHES[i] } })));
  for (const trace of figure.data) {
    const key = trace.meta;
    trace.x = steps.map((_, i) => i);
    trace.y = steps.map((step) => step[key]);
    if (steps.length === 1) trace.mode = 'lines+markers'; // a line needs two
    trace.customdata = steps.map((step) => [escaped(tokenLabel(step.text, 40)), step[key]]);
  }
  figure.layout.uirevision = run;
  // with ranges of its own, plotly.js draws nothing anew when a shape moves
  figure.layout.xaxis.range = [-0.5, Math.max(steps.length, NARROWEST) - 0.5];
  place(figure, { beta });
  return figure;
}
function place({ layout }, { beta }) {
  for (const shape of layout.shapes) {
    if (shape.name === 'beta') shape.y0 = beta;
    if (shape.name === 'beta' || shape.name === 'below-beta') shape.y1 = beta;
  }
}
/** The text alternative. */
function says(steps, beta) {
  if (!steps.length) return 'KL over the steps of the response; no step yet';
  const values = steps.map((step) => step.kl ?? Infinity), most = values.reduce((x, y) => Math.max(x, y));
  const above = steps.filter((step) => isAbove(step, beta)).length;
  return `KL over ${plural(steps.length, 'step')}: ${formatCount(above)} above β = ` +
    `${beta.toFixed(2)}; the highest, ${Number.isFinite(most) ? most.toFixed(2) + ' nats' : 'infinite'}, at step ` +
    values.indexOf(most);
}

/** @param {(step: number, focus: boolean) => void} onSelect */
export function createCurve(onSelect) {
  const chart = new Chart({ title: 'KL by step', says: 'in nats; the dashed line is β', name: 'kl-by-step',
    onClick: ({ x }) => onSelect(x, false) });
  chart.node.classList.add('lr-curve');
  let steps = [], beta = 0, selected = -1, run = '', timer = 0, held = null, others = [];

  function draw() {
    timer = 0;
    const figure = filled(steps, beta, run, others);
    figure.layout.meta.says = says(steps, beta);
    chart.draw(figure);
    mark();
  }
  function mark() {
    const [x0, x1] = selected < 0 ? [-2, -2] : [selected - 0.5, selected + 0.5];
    chart.move({ selected: { x0, x1 } });
  }
  return { node: chart.node,
    /** All steps so far, which the curve keeps: later ones are added to the same array. along: further amateurs. */
    show(now, at, id, along) {
      steps = now; beta = at; run = id; selected = -1; others = along;
      clearTimeout(timer);
      timer = 0;
      if (steps.length || chart.drawn) draw(); // plotly.js is not loaded before the first token is on the page
    },
    /** There are more steps, or their values changed. */
    grew() { if (held !== run) timer = timer || window.setTimeout(draw, PAUSE); },
    /** Draws no more of this run, and loads no plotly.js for it, before that. @param {Promise<any>} until */
    async hold(id, until) {
      held = id;
      await until;
      held = null;
      if (steps.length) this.grew();
    },
    select(step) { selected = step; mark(); },
    setBeta(value) {
      beta = value;
      chart.move({ beta: { y0: beta, y1: beta }, 'below-beta': { y1: beta } });
      chart.describe(says(steps, beta));
    },
    /** The curve as an SVG picture's address. @returns {Promise<string>} */
    picture(width = 1136) { draw(); return chart.svg(width); } };
}
