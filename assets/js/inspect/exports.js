// Export of a trace: a link, files, and a picture drawn from the same numbers as the page.

const EXPORTS = [
  ['link', 'A link that opens this step again, also after a restart of the server'],
  ['json', 'The whole trace, with the distributions of every step'],
  ['csv', 'One row per step'],
  ['png', 'A picture'],
  ['html', 'One file that opens anywhere, offline'],
];
const FILE_TYPES = { json: 'application/json', csv: 'text/csv', html: 'text/html' };

function download(name, type, content) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  downloadFrom(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// Copies the link, or saves the file that request() gets. Returns a message to show, or ''.
async function exportFile(kind, name, request) {
  if (kind === 'link') return (await copyText(location.href)) ? 'Link copied' : 'Copy it from the address bar';
  const answer = await request();
  if (answer.error) return answer.error;
  download(name + '.' + kind, FILE_TYPES[kind], answer.content);
  return '';
}

function mix(heat, surface, share) {
  const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const a = parse(heat), b = parse(surface);
  return 'rgb(' + a.map((x, i) => Math.round(x * share + b[i] * (1 - share))).join(',') + ')';
}

// The heatmap and the curve on one canvas, 1200 pixels wide, in the page's colours.
function picture(run, steps, metric, beta, colours) {
  const width = 1200, margin = 32, lineHeight = 30, scale = 2;
  const canvas = document.createElement('canvas'), context = canvas.getContext('2d');
  const font = '16px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';
  context.font = font;
  const placed = [];
  let x = margin, y = run.lens ? 132 : 110;
  for (const step of steps) {
    const pieces = step.text.split('\n');
    pieces.forEach((piece, i) => {
      const shown = (piece + (i < pieces.length - 1 ? '\u21b5' : '')).replace(CONTROL, visibleCharacter);
      const label = shown.slice(0, LONGEST_LABEL), w = context.measureText(label).width;
      if (x + w > width - margin && x > margin) { x = margin; y += lineHeight; }
      placed.push({ label, x, y, w, step });
      x += w;
      if (i < pieces.length - 1) { x = margin; y += lineHeight; }
    });
  }
  const curveTop = y + 50, height = curveTop + 190;
  canvas.width = width * scale; canvas.height = height * scale;
  context.scale(scale, scale);
  context.fillStyle = colours.surface; context.fillRect(0, 0, width, height);
  context.fillStyle = colours.ink; context.font = 'bold 18px ' + colours.font;
  context.fillText(run.expert + '  against  ' + run.amateur, margin, 40, width - 2 * margin);
  context.font = '14px ' + colours.font; context.fillStyle = colours.muted;
  const above = steps.filter((s) => isAbove(s, beta)).length;
  context.fillText(metric.name + ' \u00b7 ' + above + ' of ' + steps.length + ' steps above \u03b2 = ' +
    beta.toFixed(2) +
    ' nats (underlined)', margin, 66);
  if (run.lens) {
    const changed = steps.filter((s) => s.tuned_changed).length;
    context.fillText('\u25c6 ' + tunedName(run.lens) + ': training changed the top-1 token at ' + changed + ' of ' +
      steps.length +
      ' steps (corner at the right)', margin, 88, width - 2 * margin);
  }
  context.font = font; context.textBaseline = 'middle';
  for (const { label, x: left, y: middle, w, step } of placed) {
    context.fillStyle = mix(colours.heat, colours.surface, shade(metric, step) * 0.85);
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
    context.fillStyle = colours.ink; context.fillText(label, left, middle);
  }
  const strip = document.createElement('canvas');
  strip.width = (width - 2 * margin) * scale; strip.height = 160 * scale;
  const pen = strip.getContext('2d');
  pen.scale(scale, scale);
  drawCurve(pen, width - 2 * margin, 160, steps, beta, -1, colours);
  context.drawImage(strip, margin, curveTop, width - 2 * margin, 160);
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}

function createExportMenu(kinds, run) {
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
