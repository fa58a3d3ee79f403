// Taking a trace along: files, and a picture drawn from the same numbers as the page.

function download(name, type, content) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = el('a', { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
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
      const label = (piece + (i < pieces.length - 1 ? '\u21b5' : '')).replace(CONTROL, visible).slice(0, LONGEST_LABEL), w = context.measureText(label).width;
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
  const above = steps.filter((s) => finite(s.kl) > beta).length;
  context.fillText(metric.name + ' \u00b7 ' + above + ' of ' + steps.length + ' steps above \u03b2 = ' + beta.toFixed(2) + ' nats (underlined)', margin, 66);
  if (run.lens) {
    const changed = steps.filter((s) => s.tuned_changed).length;
    context.fillText('\u25c6 ' + lensName(run.lens) + ': training changed the favourite at ' + changed + ' of ' + steps.length + ' steps (corner at the right)', margin, 88, width - 2 * margin);
  }
  context.font = font; context.textBaseline = 'middle';
  for (const { label, x: left, y: middle, w, step } of placed) {
    context.fillStyle = mix(colours.heat, colours.surface, shade(metric, step) * 0.85);
    context.fillRect(left, middle - 12, w, 24);
    if (finite(step.kl) > beta) { context.fillStyle = colours.hot; context.fillRect(left, middle + 11, w, 2); }
    if (step.tuned_changed) {
      context.fillStyle = colours.tuned;
      context.beginPath(); context.moveTo(left + w, middle - 12); context.lineTo(left + w - 7, middle - 12); context.lineTo(left + w, middle - 5); context.fill();
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

function createExportMenu(actions) {
  const menu = el('div', { class: 'lr-menu', role: 'group', 'aria-label': 'Take this trace along' });
  const said = el('span', { class: 'lr-said', role: 'status' });
  for (const [kind, title] of actions.kinds) {
    menu.append(el('button', { type: 'button', 'data-kind': kind, title, disabled: true, text: kind === 'link' ? 'Copy link' : kind.toUpperCase(),
      onclick: async () => { const message = await actions.take(kind); if (message) { said.textContent = message; setTimeout(() => { said.textContent = ''; }, 4000); } } }));
  }
  menu.append(said);
  return { node: menu, enable(on) { menu.querySelectorAll('button').forEach((b) => { b.disabled = !on; }); } };
}
