import { type Format, THINK, type Understood } from './parse-output';

export interface OutputCase {
  readonly name: string;
  readonly format: Format;
  readonly output: string;
  readonly expected: Partial<Understood>;
}

const PARIS = ['get_weather', { city: 'Paris' }] as const;
const TIME = ['get_time', {}] as const;

const glm45 = { dialect: 'glm4.5', think: THINK } as const;
const glm47 = { dialect: 'glm4.7', think: THINK, beginsInReasoning: true } as const;
const hermes = { dialect: 'hermes', think: THINK } as const;
const coder = { dialect: 'qwen3-coder' } as const;
const llama = { dialect: 'llama3' } as const;
const mistral = { dialect: 'mistral' } as const;
const glm4 = { dialect: 'glm4' } as const;
const chatglm3 = { dialect: 'chatglm3' } as const;

const pair = (key: string, value: string): string =>
  `<arg_key>${key}</arg_key>\n<arg_value>${value}</arg_value>\n`;
const hermesCall = (name: string, input: string): string =>
  `<tool_call>\n{"name": "${name}", "arguments": ${input}}\n</tool_call>`;

/** Outputs as models write them, and what each means. */
export const CASES: readonly OutputCase[] = [
  // Reasoning.
  {
    name: 'reasoning that the model opens',
    format: glm45,
    output: '\n<think>Let me see.\n\nYes.</think>\n\n  Answer\n',
    expected: { reasoning: 'Let me see.\n\nYes.', text: '  Answer\n', order: 'reasoning text' },
  },
  {
    name: 'reasoning that the prompt has opened',
    format: glm47,
    output: 'Let me see.</think>Answer',
    expected: { reasoning: 'Let me see.', text: 'Answer' },
  },
  {
    name: 'an empty block of reasoning',
    format: hermes,
    output: '<think>\n\n</think>\n\nAnswer',
    expected: { reasoning: '', text: 'Answer', order: 'text' },
  },
  {
    name: 'reasoning that never ends',
    format: glm47,
    output: 'Hm < and </thin\n',
    expected: { reasoning: 'Hm < and </thin\n', text: '' },
  },
  {
    name: 'tags in the answer are text',
    format: hermes,
    output: 'Write <think> and </think>, like <think>this</think>.',
    expected: { text: 'Write <think> and </think>, like <think>this</think>.', reasoning: '' },
  },
  {
    name: 'a tag right after the first character',
    format: hermes,
    output: '<<think>x',
    expected: { text: '<<think>x' },
  },
  {
    name: 'reasoning without any tools',
    format: { dialect: null, think: THINK, tools: [] },
    output: '<think>\nR\n</think>\n\nA <tool_call> is text. \n',
    expected: { reasoning: 'R', text: 'A <tool_call> is text. \n' },
  },
  {
    name: 'plain text of a model without dialect and reasoning',
    format: { dialect: null, tools: [] },
    output: '\n\n  <think> text\t\n',
    expected: { text: '\n\n  <think> text\t\n', reasoning: '' },
  },
  // GLM-4.5.
  {
    name: 'a call after reasoning and text',
    format: glm45,
    output: `\n<think>R</think>\nI will look.\n<tool_call>get_weather\n${pair('city', 'Paris')}</tool_call>`,
    expected: {
      reasoning: 'R',
      text: 'I will look.',
      calls: [PARIS],
      inputs: ['{"city":"Paris"}'],
      order: 'reasoning text tool-input tool-call',
    },
  },
  {
    name: 'two calls and text after them',
    format: glm45,
    output: `<tool_call>get_time\n</tool_call>\n<tool_call>get_weather\n${pair('city', 'Paris')}</tool_call>\nDone.\n`,
    expected: {
      text: 'Done.\n',
      calls: [TIME, PARIS],
      order: 'tool-input tool-call tool-input tool-call text',
    },
  },
  {
    name: 'values typed by the schema',
    format: glm45,
    output: `<tool_call>get_weather\n${pair('city', '123')}${pair('days', ' 3 ')}${pair('detailed', 'True')}${pair('note', 'null')}${pair('place', "{'x': [1, None], 'y': \"it's\"}")}${pair('unit', 'C')}${pair('limit', '1e3')}${pair('tags', '["a", "b"]')}</tool_call>`,
    expected: {
      calls: [
        [
          'get_weather',
          {
            city: '123',
            days: 3,
            detailed: true,
            note: null,
            place: { x: [1, null], y: "it's" },
            unit: 'C',
            limit: 1000,
            tags: ['a', 'b'],
          },
        ],
      ],
    },
  },
  {
    name: 'values that do not fit their type stay text',
    format: glm45,
    output: `<tool_call>get_weather\n${pair('days', 'three')}${pair('note', '"quoted"')}${pair('unknown', '[1, 2')}${pair('big', '12345678901234567890')}</tool_call>`,
    expected: {
      inputs: ['{"days":"three","note":"\\"quoted\\"","unknown":"[1, 2","big":12345678901234567890}'],
    },
  },
  {
    name: 'a string keeps its white space, quotes, tags and pictures',
    format: glm45,
    output: `<tool_call>get_weather\n${pair('city', ' "a"\n\\b </arg_valu> <arg_key> 🙂\t')}</tool_call>`,
    expected: { calls: [['get_weather', { city: ' "a"\n\\b </arg_valu> <arg_key> 🙂\t' }]] },
  },
  {
    name: 'a call inside of reasoning that was not closed',
    format: glm45,
    output: `\n<think>I need it.\n<tool_call>get_weather\n${pair('city', 'Paris')}</tool_call>`,
    expected: { reasoning: 'I need it.', calls: [PARIS], warnings: [] },
  },
  {
    name: 'reasoning that speaks of calls',
    format: glm45,
    output: '\n<think>I could write <tool_call>other\n or <tool_call> get</think>No.',
    expected: { reasoning: 'I could write <tool_call>other\n or <tool_call> get', text: 'No.', warnings: [] },
  },
  {
    name: 'a function that was not offered',
    format: glm45,
    output: '<tool_call>launch\n</tool_call>',
    expected: { calls: [['launch', {}]], warnings: ['unknown_tool'] },
  },
  {
    name: 'text where a name should be',
    format: glm45,
    output: '<tool_call> is how a call begins, then <tool_call>get_time</tool_call>',
    expected: {
      text: '<tool_call> is how a call begins, then',
      calls: [TIME],
      warnings: ['malformed_tool_call'],
    },
  },
  {
    name: 'a call that breaks off in the middle is text',
    format: glm45,
    output: `Hi <tool_call>get_weather\n${pair('city', 'Paris')}oops</tool_call> and <tool_call>get_time\n</tool_call>`,
    expected: {
      text: `Hi<tool_call>get_weather\n${pair('city', 'Paris')}oops</tool_call> and`,
      calls: [TIME],
      warnings: ['malformed_tool_call'],
    },
  },
  {
    name: 'an answer that ends inside of a call',
    format: glm45,
    output: '<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Par</arg_',
    expected: {
      text: '<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Par</arg_',
      calls: [],
      inputs: ['{"city":"Par'],
      warnings: ['incomplete_tool_call'],
    },
  },
  {
    name: 'a call that breaks off inside of reasoning is text, no thought',
    format: glm45,
    output: '<think>R<tool_call>get_time\noops</tool_call>',
    expected: {
      reasoning: 'R',
      text: '<tool_call>get_time\noops</tool_call>',
      warnings: ['malformed_tool_call'],
    },
  },
  {
    name: 'a call that breaks off where the next one begins',
    format: glm45,
    output: '<tool_call>get_time\n<tool_call>get_time\n</tool_call>',
    expected: {
      text: '<tool_call>get_time\n',
      calls: [TIME],
      warnings: ['malformed_tool_call'],
    },
  },
  {
    name: 'a value whose type is said by a reference',
    format: glm45,
    output: `<tool_call>get_weather\n${pair('zip', '123')}</tool_call>`,
    expected: { calls: [['get_weather', { zip: '123' }]] },
  },
  // GLM-4.7.
  {
    name: 'a call without white space',
    format: glm47,
    output:
      'R</think>Look.<tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris</arg_value></tool_call><tool_call>get_time</tool_call>',
    expected: { reasoning: 'R', text: 'Look.', calls: [PARIS, TIME] },
  },
  // Hermes.
  {
    name: 'calls as JSON',
    format: hermes,
    output: `<think>\nR\n</think>\n\nFirst.\n${hermesCall('get_weather', '{"city": "Paris"}')}\n${hermesCall('get_time', '{}')}`,
    expected: { reasoning: 'R', text: 'First.', calls: [PARIS, TIME], inputs: ['{"city": "Paris"}', '{}'] },
  },
  {
    name: 'brackets, quotes and tags inside of strings',
    format: hermes,
    output: hermesCall('get_weather', '{"city": "}]\\"</tool_call>{[", "deep": [{"a": {}}]}'),
    expected: { calls: [['get_weather', { city: '}]"</tool_call>{[', deep: [{ a: {} }] }]] },
  },
  {
    name: 'arguments before the name, and other keys',
    format: hermes,
    output:
      '<tool_call>{"id": 7, "arguments": {"city": "Paris"}, "x": [1], "name": "get_weather"}</tool_call>',
    expected: { calls: [PARIS] },
  },
  {
    name: 'arguments as a string of JSON, none, and null',
    format: hermes,
    output:
      '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call><tool_call>{"name": "get_time"}</tool_call><tool_call>{"name": "get_time", "arguments": null }</tool_call>',
    expected: { calls: [PARIS, TIME, TIME] },
  },
  {
    name: 'an array of calls',
    format: hermes,
    output:
      '<tool_call>[{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "get_time", "arguments": {}}]</tool_call>',
    expected: { calls: [PARIS, TIME] },
  },
  {
    name: 'a call without its closing tag, and one more',
    format: hermes,
    output:
      '<tool_call>{"name": "get_time", "arguments": {}}\n<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}',
    expected: { text: '', calls: [TIME, PARIS], warnings: [] },
  },
  {
    name: 'JSON that is not well-formed',
    format: hermes,
    output: 'x <tool_call>{"name": "get_time", "arguments": {"a": tru}}</tool_call> y',
    expected: {
      text: 'x<tool_call>{"name": "get_time", "arguments": {"a": tru}}</tool_call> y',
      calls: [],
      warnings: ['malformed_tool_call'],
    },
  },
  {
    name: 'arguments that are no object',
    format: hermes,
    output: '<tool_call>{"name": "get_time", "arguments": [1]}</tool_call>',
    expected: {
      text: '<tool_call>{"name": "get_time", "arguments": [1]}</tool_call>',
      calls: [],
      warnings: ['malformed_tool_call'],
    },
  },
  {
    name: 'a second call of an array that is none',
    format: hermes,
    output: '<tool_call>[{"name": "get_time"}, oops]</tool_call>',
    expected: { text: ', oops]</tool_call>', calls: [TIME], warnings: [] },
  },
  {
    name: 'an answer that ends before the name is whole',
    format: hermes,
    output: '<tool_call>\n{"na',
    expected: { text: '<tool_call>\n{"na', calls: [], inputs: [], warnings: ['incomplete_tool_call'] },
  },
  // Qwen3-Coder.
  {
    name: 'a call with parameters on their own lines',
    format: coder,
    output:
      'Now.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>',
    expected: { text: 'Now.', calls: [['get_weather', { city: 'Paris', days: 2 }]] },
  },
  {
    name: 'a value of several lines loses only the outer newlines',
    format: coder,
    output:
      '<tool_call>\n<function=get_weather>\n<parameter=city>\n\n a\n\nb \n\n</parameter>\n</function>\n</tool_call>',
    expected: { calls: [['get_weather', { city: '\n a\n\nb \n' }]] },
  },
  {
    name: 'a call without <tool_call>',
    format: coder,
    output: '<function=get_time>\n</function>\n</tool_call>\nbye',
    expected: { text: 'bye', calls: [TIME] },
  },
  {
    name: 'a call without </tool_call>',
    format: coder,
    output: '<tool_call><function=get_time></function>',
    expected: { text: '', calls: [TIME], warnings: [] },
  },
  {
    name: 'an unfinished parameter',
    format: coder,
    output: '<tool_call>\n<function=get_weather>\n<parameter=city>\nPar\n',
    expected: {
      text: '<tool_call>\n<function=get_weather>\n<parameter=city>\nPar\n',
      inputs: ['{"city":"Par'],
      warnings: ['incomplete_tool_call'],
    },
  },
  // Llama 3.
  {
    name: 'a call is the whole answer',
    format: llama,
    output: '{"name": "get_weather", "parameters": {"city": "Paris"}}',
    expected: { text: '', calls: [PARIS], inputs: ['{"city": "Paris"}'] },
  },
  {
    name: 'calls with a semicolon between them',
    format: llama,
    output:
      '{"name": "get_time", "parameters": {}}; {"type": "function", "name": "get_time", "parameters": {}}',
    expected: { text: '', calls: [TIME, TIME] },
  },
  {
    name: 'an answer in JSON is no call',
    format: llama,
    output: '{"name": "Bob", "parameters": {}}\n{"age": 3}',
    expected: { text: '{"name": "Bob", "parameters": {}}\n{"age": 3}', calls: [], inputs: [], warnings: [] },
  },
  {
    name: 'an answer in JSON that mentions a tool is no call',
    format: llama,
    output: '{"city": "Paris", "name": "get_time"}',
    expected: { text: '{"city": "Paris", "name": "get_time"}', calls: [], warnings: [] },
  },
  {
    name: 'a call on a line of its own after text',
    format: llama,
    output: 'Sure {"name": "get_time"}:\n\n{"name": "get_time", "parameters": {}}\n',
    expected: { text: 'Sure {"name": "get_time"}:', calls: [TIME] },
  },
  {
    name: 'the tag before JSON, and before a method',
    format: llama,
    output:
      '<|python_tag|>{"name": "get_time", "parameters": {}}<|python_tag|>get_weather.call(city="Paris")',
    expected: { text: '', calls: [TIME, PARIS] },
  },
  {
    name: 'code after the tag is text',
    format: llama,
    output: '<|python_tag|>print(1)\n',
    expected: { text: '<|python_tag|>print(1)\n', calls: [], warnings: ['malformed_tool_call'] },
  },
  // Mistral.
  {
    name: 'an array after the marker',
    format: mistral,
    output:
      'Hi[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}, {"arguments": {}, "name": "get_time"}]',
    expected: { text: 'Hi', calls: [PARIS, TIME] },
  },
  {
    name: 'name and arguments after the marker',
    format: mistral,
    output: '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]get_time{}',
    expected: { text: '', calls: [PARIS, TIME] },
  },
  {
    name: 'an id between name and arguments',
    format: mistral,
    output: '[TOOL_CALLS]get_time[CALL_ID]abc123XYZ[ARGS] {}',
    expected: { text: '', calls: [TIME] },
  },
  {
    name: 'reasoning in brackets',
    format: { dialect: 'mistral', think: { open: '[THINK]', close: '[/THINK]' } },
    output: '[THINK]R[/THINK]A[TOOL_CALLS]get_time[ARGS]{}',
    expected: { reasoning: 'R', text: 'A', calls: [TIME] },
  },
  {
    name: 'text after the marker',
    format: mistral,
    output: '[TOOL_CALLS] I cannot.',
    expected: { text: '[TOOL_CALLS] I cannot.', calls: [], warnings: ['malformed_tool_call'] },
  },
  // GLM-4.
  {
    name: 'a name on a line, arguments below',
    format: glm4,
    output: '\nget_weather\n{"city": "Paris"}',
    expected: { text: '', calls: [PARIS], inputs: ['{"city": "Paris"}'] },
  },
  {
    name: 'text, then a turn with a call',
    format: glm4,
    output: '\nI will look.\n<|assistant|>get_weather\n{"city": "Paris"}',
    expected: { text: 'I will look.', calls: [PARIS] },
  },
  {
    name: 'text in two turns',
    format: glm4,
    output: 'One.<|assistant|>get_w and so on',
    expected: { text: 'One.\nget_w and so on', calls: [] },
  },
  {
    name: 'a line with the name of a tool that no JSON follows',
    format: glm4,
    output: '\nget_time\nis a function.',
    expected: { text: 'get_time\nis a function.', calls: [], warnings: [] },
  },
  {
    name: 'a name that is not offered is text',
    format: glm4,
    output: 'launch\n{"x": 1}',
    expected: { text: 'launch\n{"x": 1}', calls: [], warnings: [] },
  },
  {
    name: 'GLM-Z1: reasoning, then a call',
    format: { dialect: 'glm4', think: THINK, beginsInReasoning: true },
    output: 'R\n</think>\nget_time\n{}',
    expected: { reasoning: 'R', text: '', calls: [TIME] },
  },
  {
    name: 'an answer that ends inside of the arguments',
    format: glm4,
    output: 'get_weather\n{"city": "Pa',
    expected: {
      text: 'get_weather\n{"city": "Pa',
      inputs: ['{"city": "Pa'],
      warnings: ['incomplete_tool_call'],
    },
  },
  // ChatGLM3.
  {
    name: 'a call in Python',
    format: chatglm3,
    output:
      "get_weather\n ```python\ntool_call(city='Paris', days=-2, detailed=False, note=None, tags=['a,)', \"b\"])\n```",
    expected: {
      text: '',
      calls: [['get_weather', { city: 'Paris', days: -2, detailed: false, note: null, tags: ['a,)', 'b'] }]],
    },
  },
  {
    name: 'quotes and brackets inside of strings',
    format: chatglm3,
    output: "get_weather\n```python\ntool_call(city='It\\'s, \"x\")')\n```",
    expected: { calls: [['get_weather', { city: 'It\'s, "x")' }]] },
  },
  {
    name: 'a call without arguments and without its fence',
    format: chatglm3,
    output: '\nget_time\n```python\ntool_call()',
    expected: { text: '', calls: [TIME], warnings: [] },
  },
  {
    name: 'arguments that are no literals',
    format: chatglm3,
    output: 'get_time\n```python\ntool_call(x=f(1))\n```',
    expected: {
      text: 'get_time\n```python\ntool_call(x=f(1))\n```',
      calls: [],
      warnings: ['malformed_tool_call'],
    },
  },
];
