// @ts-check
// Small line charts that share one axis and one cursor: what was measured against updates, one run or several over one
// another. Every run has a colour, a dash and a marker of its own.
import { el, svg } from '../shared/dom.js';
import { formatCount, formatNumber } from '../shared/format.js';

const LOOKS = ['circle', 'square', 'triangle', 'diamond', 'cross', 'ring']; // as in finetune.css: lr-look-0 …
const LINES = { left: 46, right: 12, top: 8, bottom: 20, height: 132 };

// A part that slides: arrows, Page Up and Down, Home and End, and the pointer that its chart hands on.
function createHandle(label, move) {
  const node = el('div', { class: 'lr-handle', role: 'slider', tabindex: '0', 'aria-label': label });
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  node.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in steps)) return;
    event.preventDefault();
    move(steps[event.key]);
  });
  return { node, place(x, values) {
    node.style.left = x + 'px';
    for (const [name, value] of Object.entries(values)) node.setAttribute('aria-' + name, value);
  } };
}

// Two to five round numbers between low and high.
function ticksBetween(low, high) {
  const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find((m) => m * power >= rough * 0.999) * power;
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

// The marker of a look, as an SVG node.
function lineMarker(look, x, y, r = 4) {
  const kind = LOOKS[look % LOOKS.length], of = { class: 'lr-marker lr-look-' + (look % LOOKS.length) };
  if (kind === 'circle' || kind === 'ring') return svg('circle', { ...of, cx: x, cy: y, r, ...(kind === 'ring' ? { 'data-open': '' } : {}) });
  if (kind === 'square') return svg('rect', { ...of, x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 });
  const path = { triangle: [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]], diamond: [[0, -1.3], [1.2, 0], [0, 1.3], [-1.2, 0]] }[kind];
  if (path) return svg('polygon', { ...of, points: path.map(([a, b]) => (x + a * r).toFixed(1) + ',' + (y + b * r).toFixed(1)).join(' ') });
  return svg('path', { ...of, 'data-open': '', d: `M${x - r} ${y - r}l${2 * r} ${2 * r}M${x - r} ${y + r}l${2 * r} ${-2 * r}` });
}

export function lineSample(look) {
  return svg('svg', { class: 'lr-line-sample', viewBox: '0 0 36 12', 'aria-hidden': 'true' },
    svg('line', { class: 'lr-series lr-look-' + (look % LOOKS.length), x1: 1, x2: 35, y1: 6, y2: 6 }), lineMarker(look, 18, 6));
}

// Each point as the mean of itself and those before it, `n` in all; the last lines of a chart that jumps.
const trailing = (points, n) => points.map(([x], i) => { const part = points.slice(Math.max(0, i - n + 1), i + 1); return [x, part.reduce((sum, [, y]) => sum + y, 0) / part.length]; });

// definitions: [{ key, title, unit, says, smooth, zero }]; zero: the axis begins there; smooth: where there are many points, the mean of so many is drawn,
// and a single line's own points are pale behind it.
// draw({ key: [{ name, look, points: [[x, y] …] }] }, names of the looks?)
export function createLineCharts(definitions) {
  const node = el('div', { class: 'lr-line-charts' });
  let series = {}, span = [0, 1], cursor = null;
  const charts = definitions.map((definition) => createChart(definition));
  node.append(...charts.map((chart) => chart.node));

  function createChart({ key, title, unit, says, smooth, zero }) {
    const value = el('span', { class: 'lr-line-value' }), meant = el('span', { class: 'lr-muted', hidden: true, text: '\u00b7 mean of ' + smooth }), canvas = svg('svg', { role: 'img' });
    const plot = el('div', { class: 'lr-line-plot' }, canvas);
    const figure = el('figure', { class: 'lr-chart', 'data-chart': key, title: says }, el('figcaption', {}, el('b', { text: title }), unit ? el('span', { class: 'lr-muted', text: ' ' + unit }) : null, meant, value), plot);
    const handle = createHandle('Training step to read the curves at', move);
    plot.append(handle.node);
    plot.addEventListener('pointermove', (event) => put(at(event.clientX - plot.getBoundingClientRect().left)));
    plot.addEventListener('pointerleave', () => { if (!node.contains(document.activeElement)) put(null); });
    handle.node.addEventListener('blur', () => put(null));
    const scale = (width) => (x) => LINES.left + ((x - span[0]) / (span[1] - span[0] || 1)) * (width - LINES.left - LINES.right);
    const at = (px) => span[0] + ((px - LINES.left) / (plot.clientWidth - LINES.left - LINES.right)) * (span[1] - span[0]);
    const near = (points) => (cursor === null ? points[points.length - 1] : points.reduce((a, b) => (Math.abs(b[0] - cursor) < Math.abs(a[0] - cursor) ? b : a)));

    function draw(first) {
      const lines = (series[key] || []).map((line) => ({ ...line, points: line.points.filter(([, y]) => Number.isFinite(y)) })).filter((line) => line.points.length);
      const smoothed = smooth && lines.some((line) => line.points.length > 2 * smooth), single = lines.length === 1, raw = smoothed && single ? lines[0].points : [];
      if (smoothed) for (const line of lines) line.points = trailing(line.points, smooth);
      meant.hidden = !smoothed;
      figure.hidden = !lines.length;
      const width = plot.clientWidth;
      if (!lines.length || !width) return;
      const values = [...raw, ...lines.flatMap((line) => line.points)].map(([, y]) => y), most = Math.max(...values);
      let low = Math.min(...values), high = most;
      if (low > 0 && (zero || low < 0.5 * high)) low = 0;
      if (high - low < 1e-12 * Math.abs(high) || high === low) { low = Math.min(0, low); high = high || 1; }
      const room = (high - low) * 0.06, bottom = LINES.height - LINES.bottom, x = scale(width);
      if (low !== 0) low -= room;
      high += room;
      const y = (v) => bottom - ((v - low) / (high - low)) * (bottom - LINES.top);
      canvas.setAttribute('viewBox', '0 0 ' + width + ' ' + LINES.height);
      canvas.replaceChildren();
      for (const v of ticksBetween(low, high)) canvas.append(svg('line', { class: 'lr-gridline', x1: LINES.left, x2: width - LINES.right, y1: y(v), y2: y(v) }),
        svg('text', { class: 'lr-tick', x: LINES.left - 6, y: y(v) + 4, 'text-anchor': 'end', text: formatNumber(v) }));
      for (const v of ticksBetween(...span)) canvas.append(svg('text', { class: 'lr-tick', x: x(v), y: LINES.height - 5, 'text-anchor': 'middle', text: v >= 10000 ? v / 1000 + 'k' : formatCount(v) }));
      const shown = lines.map((line) => near(line.points));
      if (cursor !== null) canvas.append(svg('line', { class: 'lr-mark-line', x1: x(shown[0][0]), x2: x(shown[0][0]), y1: LINES.top, y2: bottom }));
      const path = (points) => points.map(([u, v]) => x(u).toFixed(1) + ',' + y(v).toFixed(1)).join(' ');
      if (raw.length) canvas.append(svg('polyline', { class: 'lr-series lr-pale lr-look-0', points: path(raw) }));
      lines.forEach((line, i) => canvas.append(
        svg('polyline', { class: 'lr-series lr-look-' + (line.look % LOOKS.length), points: path(line.points) }),
        lineMarker(line.look, x(shown[i][0]), y(shown[i][1]))));
      const valueOf = (i) => formatNumber(shown[i][1]) + (unit ? ' ' + unit : '');
      figure.classList.toggle('lr-many', !single);
      value.replaceChildren(...(single ? [el('b', { text: formatNumber(shown[0][1]) }), cursor === null ? '' : ' at ' + formatCount(shown[0][0])]
        : lines.map((line, i) => el('span', { class: 'lr-value-of' }, lineSample(line.look), formatNumber(shown[i][1])))));
      canvas.setAttribute('aria-label', title + ': ' + lines.map((line, i) => (single ? '' : line.name + ' ') + valueOf(i) + ' at training step ' + formatCount(shown[i][0]) + ', from ' + formatNumber(line.points[0][1])).join('; '));
      handle.node.hidden = !first;
      if (first) handle.place(x(shown[0][0]), { valuemin: span[0], valuemax: span[1], valuenow: shown[0][0], valuetext: 'training step ' + formatCount(shown[0][0]) + ', ' + title + ' ' + lines.map((line, i) => (single ? '' : line.name + ' ') + valueOf(i)).join(', ') });
    }
    new ResizeObserver(redraw).observe(plot);
    return { key, node: figure, draw };
  }
  function put(x) {
    const next = x === null ? null : Math.min(span[1], Math.max(span[0], x));
    if (next === cursor) return;
    cursor = next;
    redraw();
  }
  // With the keyboard: along the points of the longest line of the first chart.
  function move(by) {
    const lines = (series[firstShown()] || []).map((line) => line.points).sort((a, b) => b.length - a.length)[0] || [];
    if (!lines.length) return;
    let n = cursor === null ? lines.length - 1 : lines.reduce((best, [x], i) => (Math.abs(x - cursor) < Math.abs(lines[best][0] - cursor) ? i : best), 0);
    n = Math.min(lines.length - 1, Math.max(0, by === Infinity ? lines.length - 1 : by === -Infinity ? 0 : n + by));
    put(lines[n][0]);
  }
  const firstShown = () => definitions.map((d) => d.key).find((key) => (series[key] || []).some((line) => line.points.some(([, y]) => Number.isFinite(y))));
  function redraw() { const first = firstShown(); for (const chart of charts) chart.draw(chart.key === first); }
  return { node, draw(next, most) {
    series = next;
    const xs = Object.values(series).flatMap((lines) => lines.flatMap((line) => line.points.map(([x]) => x)));
    span = [Math.min(0, ...xs), Math.max(1, most || 0, ...xs)];
    redraw();
  } };
}
