// @ts-check
// Export of a trace: a link, files, and a picture drawn from the same numbers as the page.
import { copyText, download, el } from '../shared/dom.js';
import { LONGEST_LABEL, showInvisible } from '../shared/format.js';
import { isAbove, shade, teachesNothing, tunedName } from './measures.js';
import { countsOf, isRewritten, isTakenOver, writtenBy } from './writer.js';

/** @type {[string, string][]} */
export const EXPORTS = [
  ['link', 'A link that opens this step again, also after a restart of the server'],
  ['json', 'The whole trace, with the distributions of every step'],
  ['csv', 'One row per step'],
  ['png', 'A picture'],
  ['html', 'One file that opens anywhere, offline'],
];
const FILE_TYPES = { json: 'application/json', csv: 'text/csv', html: 'text/html' };

// Copies the link, or saves the file that request() gets. Returns a message to show, or ''.
export async function exportFile(kind, name, request) {
  if (kind === 'link') return (await copyText(location.href)) ? 'Link copied' : 'Copy it from the address bar';
  const answer = await request();
  if (answer.error) return answer.error;
  download(name + '.' + kind, answer.content, FILE_TYPES[kind]);
  return '';
}

function mix(heat, surface, share) {
  const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const a = parse(heat), b = parse(surface);
  return 'rgb(' + a.map((x, i) => Math.round(x * share + b[i] * (1 - share))).join(',') + ')';
}
function themeColours(node) {
  const style = getComputedStyle(node), names = ['muted', 'ink', 'hot', 'tuned', 'target', 'surface', 'heat'];
  return /** @type {Record<string, string>} */ ({ font: style.fontFamily,
    ...Object.fromEntries(names.map((name) => [name, style.getPropertyValue('--lr-' + name).trim()])) });
}

const WIDTH = 1200, MARGIN = 32, LINE = 30, SCALE = 2, CURVE = 190; // of the picture, in pixels
const MONOSPACE = '16px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';

// Where each piece of each token stands: [{ label, x, y, w, step }], and the last line's y.
function placeTokens(context, steps, top) {
  const placed = [];
  let x = MARGIN, y = top;
  for (const step of steps) {
    const pieces = step.text.split('\n');
    pieces.forEach((piece, i) => {
      const shown = showInvisible(piece + (i < pieces.length - 1 ? '\n' : ''));
      const label = shown.slice(0, LONGEST_LABEL), w = context.measureText(label).width;
      if (x + w > WIDTH - MARGIN && x > MARGIN) { x = MARGIN; y += LINE; }
      placed.push({ label, x, y, w, step });
      x += w;
      if (i < pieces.length - 1) { x = MARGIN; y += LINE; }
    });
  }
  return { placed, bottom: y };
}
function drawHead(context, run, steps, metric, beta, colours) {
  context.fillStyle = colours.ink; context.font = 'bold 18px ' + colours.font;
  context.fillText(run.expert + '  against  ' + run.amateur, MARGIN, 40, WIDTH - 2 * MARGIN);
  context.font = '14px ' + colours.font; context.fillStyle = colours.muted;
  const above = steps.filter((s) => isAbove(s, beta)).length;
  context.fillText(metric.name + ' \u00b7 ' + above + ' of ' + steps.length + ' steps above \u03b2 = ' +
    beta.toFixed(2) + ' nats (underlined)', MARGIN, 66);
  headLines(run, steps).forEach((text, n) =>
    context.fillText(text, MARGIN, 88 + 22 * n, WIDTH - 2 * MARGIN));
}
// On the tuned expert, and on the contrast that wrote the response.
function headLines({ lens, contrast }, steps) {
  const changed = steps.filter((s) => s.tuned_changed).length;
  return [...(lens ? ['\u25c6 ' + tunedName(lens) + ': training changed the top-1 token at ' + changed + ' of ' +
    steps.length + ' steps (corner at the right)'] : []),
  ...(contrast ? [writtenBy(contrast), countsOf(steps, contrast) + (contrast.takeover
    ? ' (double and dashed line above)' : ' (dashed line above)')] : [])];
}
function drawToken(context, { label, x: left, y: middle, w, step }, metric, beta, colours) {
  const pale = teachesNothing(step) ? 0.3 : 1;
  context.fillStyle = mix(colours.heat, colours.surface, shade(metric, step) * 0.85 * pale);
  context.fillRect(left, middle - 12, w, 24);
  if (isAbove(step, beta)) { context.fillStyle = colours.hot; context.fillRect(left, middle + 11, w, 2); }
  if (step.tuned_changed) {
    context.fillStyle = colours.tuned;
    context.beginPath();
    context.moveTo(left + w, middle - 12);
    context.lineTo(left + w - 7, middle - 12);
    context.lineTo(left + w, middle - 5);
    context.fill();
  }
  context.fillStyle = colours.target;
  if (isRewritten(step)) for (let x = left; x < left + w; x += 6) context.fillRect(x, middle - 14, 4, 2);
  if (isTakenOver(step)) for (const y of [-15, -12]) context.fillRect(left, middle + y, w, 1);
  context.fillStyle = pale < 1 ? colours.muted : colours.ink;
  context.fillText(label, left, middle);
}

// The heatmap and the curve on one canvas, in the page's colours. curve: the address of a picture of it, or ''.
export async function picture(run, steps, metric, beta, node, curve) {
  const canvas = el('canvas'), context = canvas.getContext('2d'), colours = themeColours(node);
  context.font = MONOSPACE;
  const { placed, bottom } = placeTokens(context, steps, 110 + 22 * headLines(run, steps).length);
  const strip = curve && Object.assign(new Image(), { src: curve });
  if (strip) await strip.decode();
  const height = bottom + 50 + (strip ? CURVE : 0);
  canvas.width = WIDTH * SCALE; canvas.height = height * SCALE;
  context.scale(SCALE, SCALE);
  context.fillStyle = colours.surface; context.fillRect(0, 0, WIDTH, height);
  drawHead(context, run, steps, metric, beta, colours);
  context.font = MONOSPACE; context.textBaseline = 'middle';
  for (const token of placed) drawToken(context, token, metric, beta, colours);
  if (strip) {
    const across = Math.min(WIDTH - 2 * MARGIN, (strip.width * (CURVE - 20)) / strip.height);
    context.drawImage(strip, MARGIN, bottom + 40, across, CURVE - 20);
  }
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}

export function createExportMenu(kinds, run) {
  const menu = el('div', { class: 'lr-menu', role: 'group', 'aria-label': 'Export' });
  const status = el('span', { class: 'lr-action-status', role: 'status' });
  async function start(kind) {
    const message = await run(kind);
    if (!message) return;
    status.textContent = message;
    setTimeout(() => { status.textContent = ''; }, 4000);
  }
  menu.append(...kinds.map(([kind, title]) => el('button', { type: 'button', 'data-kind': kind, title, disabled: true,
    text: kind === 'link' ? 'Copy link' : kind.toUpperCase(), onclick: () => start(kind) })), status);
  return { node: menu, enable(on) { menu.querySelectorAll('button').forEach((b) => { b.disabled = !on; }); } };
}
