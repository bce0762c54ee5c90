/** Formats of models whose checkpoints come with program code instead of a template, as that code writes them. */

export const CHATML = `{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;

/** GLM-4-9B. A call is a turn of its own whose first line names the function. */
export const GLM4 = `[gMASK]<sop>
{%- if tools %}<|system|>
你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，你的任务是针对用户的问题和要求提供适当的答复和支持。

# 可用工具
{%- for tool in tools %}{% set function = tool.function %}


## {{ function.name }}

{{ function | tojson(indent=4, ensure_ascii=False) }}
在调用上述函数时，请使用 Json 格式表示调用的参数。
{%- endfor %}{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- if message.content or not message.tool_calls %}<|assistant|>
{{ message.content }}
{%- endif %}
{%- for call in message.tool_calls or [] %}<|assistant|>{{ call.function.name }}
{{ call.function.arguments | tojson(ensure_ascii=False) }}
{%- endfor %}
{%- else %}<|{{ 'observation' if message.role == 'tool' else message.role }}|>
{{ message.content }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}`;

/**
 * ChatGLM3. Its program tokenizes each content apart, which puts SentencePiece's space before it. Arguments of calls are
 * Python's keyword arguments.
 */
export const CHATGLM3 = `[gMASK]sop
{%- set first = messages[0] if messages and messages[0].role == 'system' else none %}
{%- if tools %}<|system|>
 {{ first.content ~ '\\n\\n' if first else '' }}Answer the following questions as best as you can. You have access to the following tools:
{% set ns = namespace(functions=[]) %}
{%- for tool in tools %}{% set ns.functions = ns.functions + [tool.function] %}{% endfor %}
{{- ns.functions | tojson(indent=4, ensure_ascii=False) }}
{%- elif first %}<|system|>
 {{ first.content }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- if message.content or not message.tool_calls %}<|assistant|>
 {{ message.content }}
{%- endif %}
{%- for call in message.tool_calls or [] %}<|assistant|>{{ call.function.name }}
 \`\`\`python
tool_call(
{%- for key, value in call.function.arguments.items() %}
{{- key }}=
{%- if value is string and "'" not in value and '\\\\' not in value and '\n' not in value %}'{{ value }}'
{%- elif value is boolean %}{{ 'True' if value else 'False' }}
{%- elif value is none %}None
{%- else %}{{ value | tojson(ensure_ascii=False) }}
{%- endif %}{{ ', ' if not loop.last }}
{%- endfor %})
\`\`\`
{%- endfor %}
{%- elif message.role != 'system' or not loop.first %}<|{{ 'observation' if message.role == 'tool' else message.role }}|>
 {{ message.content }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}`;
