// How the browser's scripts are written: `make lint` checks it, `make format` mends what a tool can mend.
import js from '@eslint/js';
import stylistic from '@stylistic/eslint-plugin';
import globals from 'globals';

// What browsers of 2023 do not know (Safari 15.4, Firefox 115)
const tooNew = [
  { selector: "Literal[regex.pattern=/[(][?]<[=!]/]", message: 'Safari 15 does not read regular-expression look-behind.' },
  { selector: "Literal[regex.flags=/v/]", message: 'Safari 15 does not know the flag v.' },
  { selector: "Literal[value=/[(][?]<[=!]/]", message: 'Safari 15 does not read regular-expression look-behind.' },
  { selector: 'CallExpression > MemberExpression[property.name=/^(checkVisibility|findLast|findLastIndex|groupBy|' +
    'toReversed|toSorted|toSpliced|withResolvers)$/]',
    message: 'Safari 15 does not know this method.' },
];

export default [
  js.configs.recommended,
  stylistic.configs.customize({ semi: true, braceStyle: '1tbs', arrowParens: true, quoteProps: 'as-needed' }),
  {
    files: ['assets/js/**/*.js'],
    languageOptions: { ecmaVersion: 2022, sourceType: 'module', globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    plugins: { '@stylistic': stylistic },
    rules: {
      'max-lines-per-function': ['error', { max: 60, skipComments: true, skipBlankLines: true }],
      'no-restricted-syntax': ['error', ...tooNew],
      'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'no-var': 'error',
      'prefer-const': ['error', { destructuring: 'all' }],
      eqeqeq: 'error',
      'no-control-regex': 'off',
      // several short statements and elements may share a line
      '@stylistic/max-len': ['error', { code: 120, ignoreUrls: true }],
      '@stylistic/max-statements-per-line': 'off',
      '@stylistic/brace-style': ['error', '1tbs', { allowSingleLine: true }],
      '@stylistic/multiline-ternary': 'off',
      '@stylistic/object-curly-newline': 'off',
      '@stylistic/operator-linebreak': 'off',
      '@stylistic/indent': ['error', 2, { CallExpression: { arguments: 'off' }, ArrayExpression: 'off',
        ImportDeclaration: 1, flatTernaryExpressions: true,
        ignoredNodes: ['ConditionalExpression', 'TemplateLiteral > *'] }],
      '@stylistic/indent-binary-ops': 'off',
      '@stylistic/list-style': 'off',
      '@stylistic/lines-between-class-members': 'off',
      '@stylistic/padded-blocks': 'off',
      '@stylistic/no-multi-spaces': 'error',
      '@stylistic/array-bracket-newline': 'off',
    },
  },
];
