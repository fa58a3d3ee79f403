// All results side by side, what they cost, and the paper's figures, which are marked as the paper's wherever they stand.

const METHOD_TITLES = { base: 'base', sft: 'SFT', lightreasoner: 'LightReasoner' };
const shortName = (ref) => ref.replace(/\/+$/, '').split('/').pop();
const tokensText = (n) => (n >= 1e6 ? (n / 1e6).toFixed(2) + ' M' : whole(n));
const paperMark = () => el('span', { class: 'lr-paper-mark', text: 'paper' });
const lacking = (text) => el('span', { class: 'lr-muted lr-lacking', text });

function createOverview() {
  const place = el('div', { class: 'lr-overview' });
  const node = el('section', { class: 'lr-dataset-view', 'aria-label': 'All results', hidden: true }, place);

  function results(data) {
    if (!data.groups.length) return [];
    return [el('div', { class: 'lr-card lr-results' }, el('h3', { text: 'All results' }),
      el('p', { class: 'lr-muted', text: 'Each model\u2019s largest evaluation on each benchmark; the dashed line is its base. Numbers of the paper stand below ours where it has the same model and benchmark.' }),
      ...data.groups.flatMap((group) => [el('h4', {}, shortName(group.base) + ' on ' + group.title), modelsTable(group.title + ', ' + shortName(group.base), group.models, group.paper, true)]))];
  }

  function costs(data) {
    const columns = [{ title: 'Model' , class: 'lr-name' }, { title: 'Time', class: 'lr-num', says: 'Sampling and fine-tuning together; waiting left out' }, { title: 'of it sampling', class: 'lr-num' }, { title: 'Sampled problems', class: 'lr-num' },
      { title: 'Tuned tokens', class: 'lr-num', says: 'Token positions that were learned from, repeats counted' }, { title: 'Gain', class: 'lr-num', says: 'Points of pass@1 over the base, averaged over the benchmarks it was evaluated on' }];
    const cell = (cost, key, text) => (cost[key] === null ? lacking(cost.missing[key] || 'not known') : text(cost[key]));
    const ours = data.costs.map((cost) => ({ cells: [
      el('span', {}, el('a', { href: '?tab=evaluate&run=' + cost.run, title: 'Evaluate this model', text: shortName(cost.base) + ': ' + cost.method }), el('span', { class: 'lr-muted lr-cost-when', text: ' ' + clock(cost.created) + (cost.device ? ', on ' + cost.device : '') })),
      cost.seconds === null ? lacking(cost.tuning_seconds === null ? cost.missing.tuning_seconds : duration(cost.tuning_seconds) + ' of fine-tuning; sampling: ' + cost.missing.sampling_seconds) : duration(cost.seconds),
      cell(cost, 'sampling_seconds', duration), cell(cost, 'problems', whole), cell(cost, 'tuned_tokens', tokensText),
      cost.gain === null ? lacking(cost.missing.gain) : el('span', { title: cost.gains.map((g) => g.benchmark + ': ' + points(g.difference) + ' (' + points(g.low) + ' to ' + points(g.high) + ')').join('\n') }, el('b', { text: points(cost.gain) }), el('span', { class: 'lr-muted', text: ' on ' + (cost.gains.length === 1 ? cost.gains[0].benchmark : plural(cost.gains.length, 'benchmark')) }))] }));
    const theirs = data.paper.costs.map((cost) => ({ class: 'lr-is-paper', cells: [el('span', {}, paperMark(), ' ' + shortName(cost.base) + ': ' + METHOD_TITLES[cost.method]),
      duration(cost.seconds), lacking('not given'), whole(cost.problems), tokensText(cost.tuned_tokens), el('span', {}, points(cost.gain), el('span', { class: 'lr-muted', text: ' on 7 benchmarks' }))] }));
    return el('div', { class: 'lr-card lr-results' }, el('h3', { text: 'What it cost' }),
      el('p', { class: 'lr-muted', text: (ours.length ? 'Measured here, in the form of the paper\u2019s table; ' : 'Nothing was fine-tuned here yet, so these are the paper\u2019s numbers alone, ') + (ours.length ? 'below it the paper\u2019s own, ' : '') + 'on ' + data.paper.hardware + ' (' + data.paper.source + ').' }),
      gridTable('What it cost', columns, [...ours, ...theirs]));
  }

  function paper(data) {
    const columns = [{ title: 'Model', class: 'lr-name' }, ...data.paper.benchmarks.map((title) => ({ title, class: 'lr-num' })), { title: 'Average', class: 'lr-num' }];
    const rows = data.paper.scores.map((row) => ({ class: 'lr-is-paper', cells: [el('span', {}, paperMark(), ' ' + shortName(row.model) + ': ' + METHOD_TITLES[row.method]), ...[...row.values, row.average].map((x) => (100 * x).toFixed(1))] }));
    return el('details', { class: 'lr-card lr-results' }, el('summary', { text: 'The paper\u2019s results' }),
      el('p', { class: 'lr-muted', text: 'Zero-shot pass@1 in percent, from ' + data.paper.source + '; none of it was measured here.' }), gridTable('The paper\u2019s results', columns, rows));
  }
  return { node, show(data) { node.hidden = false; drawOnce(place, data, () => { const open = place.querySelector('details')?.open; const parts = [...results(data), costs(data), paper(data)]; parts.at(-1).open = !!open; return parts; }); }, hide() { node.hidden = true; } };
}
