// @ts-check
// Texts with LaTeX, read as formulas: by KaTeX, which Gradio's frontend carries, as MathML, which browsers draw
// themselves. Everything that is no formula stays text.
import { el } from '../shared/dom.js';
import { FORMULAS } from '../shared/engine_data.js';

// \[…\], $$…$$, \(…\), $…$, an environment, or \boxed{…} alone, as models write it
const PIECES = new RegExp([/\\\[([^]+?)\\\]/, /\$\$([^]+?)\$\$/, /\\\(([^]+?)\\\)/,
  /\$(?![\s$])((?:[^$\n\\]|\\[^])+?)\$(?!\d)/, /(\\begin\{[a-z]+\*?\}[^]+?\\end\{[a-z]+\*?\})/,
  /(\\boxed\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})/].map(({ source }) => source).join('|'), 'g');
const PROSE = /(?:^|\s)[a-z]{2,}\s|\s[a-z]{2,}(?:[\s,.;:?!]|$)/i; // "$5 and then 3$" are amounts of money
const DELIMITERS = [{ left: '\\[', right: '\\]', display: true }, { left: '\\(', right: '\\)', display: false }];

/**
 * @param {string} text
 * @returns {{ text: string, tex: boolean, display: boolean }[]} its pieces, in order; together they are the text
 *   without the delimiters of formulas
 */
export function splitFormulas(text) {
  const pieces = [], add = (part, tex, display) => { if (part) pieces.push({ text: part, tex, display }); };
  let end = 0;
  for (const match of text.matchAll(PIECES)) {
    const [all, bracket, dollars, round, dollar, environment, boxed] = match;
    if (dollar !== undefined && (/\s$/.test(dollar) || (!dollar.includes('\\') && PROSE.test(dollar)))) continue;
    add(text.slice(end, match.index), false, false);
    const display = bracket !== undefined || dollars !== undefined || environment !== undefined;
    add(bracket ?? dollars ?? round ?? dollar ?? environment ?? boxed, true, display);
    end = match.index + all.length;
  }
  add(text.slice(end), false, false);
  return pieces;
}
export const hasFormulas = (text) => FORMULAS !== '' && splitFormulas(text).some(({ tex }) => tex);

/** Fills a node with a text. What KaTeX cannot read stands as it was written. @param {HTMLElement} node */
export async function showFormulas(node, text) {
  node.replaceChildren(...splitFormulas(text).map(({ text: part, tex, display }) => (tex
    ? el('span', { class: 'lr-formula', text: (display ? '\\[' : '\\(') + part + (display ? '\\]' : '\\)') }) : part)));
  const { default: render } = await import(new URL(FORMULAS, document.baseURI).href);
  for (const formula of node.querySelectorAll('.lr-formula')) {
    render(formula, { delimiters: DELIMITERS, output: 'mathml', trust: false, strict: 'ignore', throwOnError: false,
      maxExpand: 500, maxSize: 20, errorCallback: () => {} });
  }
}
