{{- define "gristmill.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "gristmill.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gristmill.labels" -}}
{{ include "gristmill.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: gristmill
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "gristmill.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{/* The settings that every process shares: pools, prices and budgets, in TOML. */}}
{{- define "gristmill.toml" -}}
{{- range $name, $given := .Values.pools }}
{{- $pool := mergeOverwrite (deepCopy $.Values.poolDefaults) ($given | default dict) }}
[pools.{{ $name | quote }}]
min = {{ $pool.min }}
max = {{ $pool.max }}
slots = {{ $pool.slots }}
memory = {{ $pool.memory }}
drain_time = {{ $pool.drainTime }}
idle = {{ $pool.idle }}
{{- if $pool.startUp }}
start_up = {{ $pool.startUp }}
{{- end }}
{{- with $pool.labels }}
requires = { {{- range $index, $key := keys . | sortAlpha }}{{ if $index }},{{ end }} {{ $key | quote }} = {{ get $pool.labels $key | quote }}{{ end }} }
{{- end }}
{{ end }}
{{- with .Values.prices }}
[prices]
{{- with .currency }}
currency = {{ . | quote }}
{{- end }}
{{- range $name, $price := .pools }}
pools.{{ $name | quote }} = { {{- range $index, $key := keys $price | sortAlpha }}{{ if $index }},{{ end }} {{ $key }} = {{ get $price $key }}{{ end }} }
{{- end }}
{{ end }}
{{- range $name, $budget := .Values.budgets }}
[budgets.{{ $name | quote }}]
{{- range $key, $value := $budget }}
{{ $key }} = {{ if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ $value }}{{ end }}
{{- end }}
{{ end }}
{{- end }}

{{/* Nobody may become anything. */}}
{{- define "gristmill.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "gristmill.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "gristmill.env" -}}
- name: GRISTMILL_BROKER
  valueFrom: { secretKeyRef: { name: {{ .Values.servers.existingSecret }}, key: {{ .Values.servers.brokerKey }} } }
- name: GRISTMILL_STATE
  valueFrom: { secretKeyRef: { name: {{ .Values.servers.existingSecret }}, key: {{ .Values.servers.stateKey }} } }
- name: GRISTMILL_ARTIFACTS
  value: {{ required "servers.artifacts must say where artifacts are kept: s3://bucket/prefix" .Values.servers.artifacts | quote }}
- name: GRISTMILL_QUEUE_TYPE
  value: {{ .Values.servers.queueType }}
- name: GRISTMILL_CONFIG
  value: /etc/gristmill/gristmill.toml
- name: GRISTMILL_LOG
  value: {{ .Values.telemetry.log | quote }}
- name: GRISTMILL_LOG_FORMAT
  value: json
- name: AWS_REGION
  value: {{ .Values.servers.s3Region | quote }}
{{- with .Values.servers.s3Endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.servers.s3ExistingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: { secretKeyRef: { name: {{ . }}, key: AWS_ACCESS_KEY_ID } }
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: { secretKeyRef: { name: {{ . }}, key: AWS_SECRET_ACCESS_KEY } }
{{- end }}
{{- if .Values.servers.caConfigMap }}
- name: SSL_CERT_FILE
  value: /etc/gristmill-ca/ca.crt
{{- end }}
{{- with .Values.telemetry.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ $.Values.telemetry.otlpProtocol | quote }}
{{- end }}
{{- end }}

{{/*
A Deployment of one role. Called with a dict: root, role, name (of the object), settings (of the role), args, replicas (null:
whoever scales it says), ports (name → number), probe (the port's name), scratch, preStopSeconds, volumes, mounts, surge.
*/}}
{{- define "gristmill.deployment" -}}
{{- $root := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  labels:
    {{- include "gristmill.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
    {{- with .pool }}
    gristmill.io/pool: {{ . }}
    {{- end }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # New processes are ready before old ones are told to end: versions work side by side.
  strategy:
    type: RollingUpdate
    rollingUpdate: { maxUnavailable: 0, maxSurge: {{ .surge | default 1 }} }
  selector:
    matchLabels:
      {{- include "gristmill.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .role }}
      {{- with .pool }}
      gristmill.io/pool: {{ . }}
      {{- end }}
  template:
    metadata:
      labels:
        {{- include "gristmill.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .role }}
        {{- with .pool }}
        gristmill.io/pool: {{ . }}
        {{- end }}
        {{- with $root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ include "gristmill.toml" $root | sha256sum }}
        {{- with $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "gristmill.fullname" $root }}-{{ .role }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
      securityContext:
        {{- include "gristmill.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .settings.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with .settings.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .settings.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $root.Values.topologySpread.enabled }}
      topologySpreadConstraints:
        {{- range $key := list $root.Values.topologySpread.topologyKey "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ $key }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "gristmill.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $.role }}
              {{- with $.pool }}
              gristmill.io/pool: {{ . }}
              {{- end }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .role }}
          image: {{ include "gristmill.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args:
            {{- toYaml (concat .args (.settings.extraArgs | default list)) | nindent 12 }}
          env:
            {{- include "gristmill.env" $root | nindent 12 }}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- with .settings.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            {{- range $name, $port := .ports }}
            - { name: {{ $name }}, containerPort: {{ $port }}, protocol: TCP }
            {{- end }}
          # It may have to wait for broker and state when all start at once.
          startupProbe:
            httpGet: { path: /healthz, port: {{ .probe }}{{ with .scheme }}, scheme: {{ . }}{{ end }} }
            periodSeconds: 1
            failureThreshold: 90
          livenessProbe:
            httpGet: { path: /healthz, port: {{ .probe }}{{ with .scheme }}, scheme: {{ . }}{{ end }} }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: { path: /readyz, port: {{ .probe }}{{ with .scheme }}, scheme: {{ . }}{{ end }} }
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          {{- with .preStopSeconds }}
          # Until every proxy has heard that this pod takes no more.
          lifecycle: { preStop: { sleep: { seconds: {{ . }} } } }
          {{- end }}
          resources:
            {{- toYaml .settings.resources | nindent 12 }}
          securityContext:
            {{- include "gristmill.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - { name: scratch, mountPath: /tmp }
            - { name: config, mountPath: /etc/gristmill, readOnly: true }
            {{- if $root.Values.servers.caConfigMap }}
            - { name: ca, mountPath: /etc/gristmill-ca, readOnly: true }
            {{- end }}
            {{- with .mounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: scratch
          emptyDir: { sizeLimit: {{ .scratch | default "1Gi" }} }
        - name: config
          configMap: { name: {{ include "gristmill.fullname" $root }} }
        {{- with $root.Values.servers.caConfigMap }}
        - name: ca
          configMap: { name: {{ . }} }
        {{- end }}
        {{- with .volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{- define "gristmill.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels:
    {{- include "gristmill.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
spec:
  maxUnavailable: {{ .maxUnavailable | default 1 }}
  # A pod that isn't ready holds nothing that a drain of its node should wait for.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "gristmill.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .role }}
      {{- with .pool }}
      gristmill.io/pool: {{ . }}
      {{- end }}
{{- end }}

{{- define "gristmill.apiUrl" -}}
{{ ternary "https" "http" (ne .Values.api.tlsExistingSecret "") }}://{{ include "gristmill.fullname" . }}-api.{{ .Release.Namespace }}.svc:{{ .Values.api.port }}
{{- end }}
