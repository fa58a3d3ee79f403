// A model card as nodes: the little Markdown that our cards are written in (headings, tables, paragraphs), and never as
// HTML. What stands before the second "---" is for machines and is left out.

function drawCard(text) {
  const lines = text.replace(/^---\n[\s\S]*?\n---\n/, '').split('\n'), out = [];
  const plain = (s) => s.replace(/&lt;/g, '<').replace(/\\([\\|])/g, '$1').trim();
  const cells = (line) => line.slice(1, -1).split(/(?<!\\)\|/).map(plain);
  for (let i = 0; i < lines.length; i += 1) {
    const line = lines[i].trim(), heading = /^(#{1,3}) (.*)$/.exec(line);
    if (!line) continue;
    if (heading) out.push(el(heading[1].length === 1 ? 'h4' : 'h5', { text: heading[2] }));
    else if (line.startsWith('|')) {
      const rows = [];
      while (i < lines.length && lines[i].trim().startsWith('|')) { rows.push(cells(lines[i].trim())); i += 1; }
      const body = rows.filter((row) => row.some((cell) => cell && !/^:?-+:?$/.test(cell)));
      out.push(el('dl', { class: 'lr-card-rows' }, ...body.map(([name, ...values]) => el('div', {}, el('dt', { text: name }), el('dd', { text: values.join(' ') })))));
    } else out.push(el('p', { text: plain(line) }));
  }
  return out;
}
